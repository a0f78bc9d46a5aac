package orchestrator

import (
	"reflect"
	"time"
)

// notAfter replaces every time in v, a pointer, that is later than now by now. What was loaded may have been written by a leader whose clock is
// minutes ahead of ours: a read that begins now would then seem to be older than what it has to be newer than, and be ignored for as long.
// What has not come yet ([dues]) stays.
func notAfter(v any, now time.Time) { clamp(reflect.ValueOf(v), now) }

// dues are the fields that hold the time of something that is to come: the end of a pause or a drill, the turn of one who is forced among many.
var dues = map[string]bool{"Until": true, "ForceAt": true}

var timeType = reflect.TypeFor[time.Time]()

func clamp(v reflect.Value, now time.Time) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			clamp(v.Elem(), now)
		}
	case reflect.Slice:
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Pointer || k == reflect.Slice || k == reflect.Map {
			for i := range v.Len() {
				clamp(v.Index(i), now)
			}
		}
	case reflect.Map:
		if v.Type().Elem().Kind() != reflect.Struct && v.Type().Elem().Kind() != reflect.Pointer {
			return
		}
		for _, key := range v.MapKeys() { // what a map holds cannot be changed in its place
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			clamp(value, now)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		if v.Type() == timeType {
			if t := v.Addr().Interface().(*time.Time); t.After(now) {
				*t = now
			}
			return
		}
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && !dues[v.Type().Field(i).Name] { // it is exported
				clamp(f, now)
			}
		}
	}
}
