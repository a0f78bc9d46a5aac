package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"changeover/internal/api/contract"
)

const (
	maxBody   = 64 << 10
	maxDepth  = 16 // of a body's JSON; the deepest that the document knows is 3
	maxFields = 20 // faults told in one answer
)

// validationOptions: all faults at once, and nothing written back into the request.
var validationOptions = &openapi3filter.Options{MultiError: true, SkipSettingDefaults: true}

// validate checks a request against its operation: every parameter, unknown ones, and the body, which has been read.
//
// The schemas are those of an OpenAPI 3.1 document, yet kin-openapi's own validator checks them, not its JSON Schema 2020-12
// one: that compiles the schema for each value (BenchmarkValidate), and requests need nothing that only it can do. The
// tests check that on every operation's schemas, and validate responses with the 2020-12 one.
func (op *operation) validate(r *http.Request, pathParams map[string]string, body []byte) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid(contract.FieldError{In: contract.FieldErrorInQuery, Field: "?", Message: "the query string is not properly escaped"})
	}
	var faults []contract.FieldError
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		p, known := op.query[name]
		switch {
		case !known:
			faults = append(faults, contract.FieldError{Field: clip(name), In: contract.FieldErrorInQuery, Message: "is not a parameter of this operation"})
		case slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }): // no schema says so, and the database takes none
			faults = append(faults, contract.FieldError{Field: name, In: contract.FieldErrorInQuery, Message: "is not UTF-8"})
		case len(values) > 1 && !p.Schema.Value.Type.Is(openapi3.TypeArray):
			faults = append(faults, contract.FieldError{Field: name, In: contract.FieldErrorInQuery, Message: "is there more than once"})
		}
	}
	input := &openapi3filter.RequestValidationInput{Request: r, PathParams: pathParams, QueryParams: query, Options: validationOptions}
	for _, p := range op.params {
		// Two values of a header would be checked as one and used as another.
		if p.In == openapi3.ParameterInHeader && len(r.Header.Values(p.Name)) > 1 {
			faults = append(faults, contract.FieldError{Field: p.Name, In: contract.FieldErrorInHeader, Message: "is there more than once"})
			continue
		}
		if err := openapi3filter.ValidateParameter(r.Context(), input, p); err != nil {
			faults = append(faults, fieldErrors(contract.FieldErrorIn(p.In), p.Name, err)...)
		}
	}
	if op.body != nil {
		faults = append(faults, op.validateBody(body)...)
	}
	if len(faults) > maxFields {
		faults = faults[:maxFields]
	}
	if len(faults) > 0 {
		return invalid(faults...)
	}
	return nil
}

func (op *operation) validateBody(body []byte) []contract.FieldError {
	if len(body) == 0 {
		return []contract.FieldError{{In: contract.FieldErrorInBody, Message: "a JSON object is expected"}}
	}
	if fault := checkJSON(body); fault != nil {
		return []contract.FieldError{*fault}
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return []contract.FieldError{{In: contract.FieldErrorInBody, Message: "is not JSON that can be read"}}
	}
	if err := op.body.VisitJSON(value, openapi3.VisitAsRequest(), openapi3.MultiErrors()); err != nil {
		return fieldErrors(contract.FieldErrorInBody, "", err)
	}
	return nil
}

// fieldErrors takes kin-openapi's errors apart. Its reasons never hold the value that was sent.
func fieldErrors(in contract.FieldErrorIn, name string, err error) []contract.FieldError {
	var request *openapi3filter.RequestError
	if errors.As(err, &request) && request.Err != nil {
		err = request.Err
	}
	var many openapi3.MultiError
	if errors.As(err, &many) {
		var faults []contract.FieldError
		for _, one := range many {
			faults = append(faults, fieldErrors(in, name, one)...)
		}
		return faults
	}
	fault := contract.FieldError{Field: name, In: in, Message: "has the wrong format"}
	var schema *openapi3.SchemaError
	var parse *openapi3filter.ParseError
	switch {
	case errors.As(err, &schema):
		fault.Message = schema.Reason
		if in == contract.FieldErrorInBody {
			fault.Field = clip(fieldPath(schema.JSONPointer()))
		}
		switch schema.SchemaField {
		case "properties":
			// The pointer ends at the object, and only the reason names the member.
			var name string
			if _, err := fmt.Sscanf(schema.Reason, "property %q is unsupported", &name); err == nil {
				fault.Field = clip(fieldPath(append(schema.JSONPointer(), name)))
			}
			fault.Message = "is not a field of this body"
		case "required":
			fault.Message = "is required"
		}
	case errors.Is(err, openapi3filter.ErrInvalidRequired):
		fault.Message = "is required"
	case errors.Is(err, openapi3filter.ErrInvalidEmptyValue):
		fault.Message = "must not be empty"
	case errors.As(err, &parse) && parse.Kind == openapi3filter.KindInvalidFormat:
		fault.Message = "has the wrong type"
	}
	return []contract.FieldError{fault}
}

// fieldPath writes a JSON pointer as people write it: contacts[0].state.
func fieldPath(pointer []string) string {
	var b strings.Builder
	for _, key := range pointer {
		if _, err := strconv.Atoi(key); err == nil && b.Len() > 0 {
			fmt.Fprintf(&b, "[%s]", key)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(key)
	}
	return b.String()
}

// clip shortens what a caller chose, so that an answer does not grow with it.
func clip(s string) string {
	if len(s) <= 64 {
		return s
	}
	return strings.ToValidUTF8(s[:64], "") + "…"
}

// readBody reads what a request may send: plain JSON of at most maxBody bytes where the operation takes a body, else nothing
// (an empty object, which HTTP clients like to add, passes for that).
func (op *operation) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, problemf(kindTooLarge, "The body is longer than %d KiB.", maxBody>>10)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &problem{kind: kindTimeout, detail: "The body did not come in time.", cause: err}
	case err != nil:
		return nil, &problem{kind: kindInvalid, detail: "The body ended early.", cause: err,
			fields: []contract.FieldError{{In: contract.FieldErrorInBody, Message: "ended early"}}}
	}
	if op.body == nil {
		if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 && string(trimmed) != "{}" {
			return nil, invalid(contract.FieldError{In: contract.FieldErrorInBody, Message: "this operation takes none"})
		}
		return nil, nil
	}
	if len(body) == 0 {
		return nil, nil // a chunked body of nothing
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, hasCharset := params["charset"]
	if err != nil || media != mediaJSON || (hasCharset && !strings.EqualFold(charset, "utf-8")) || r.Header.Get("Content-Encoding") != "" {
		return nil, problemf(kindMediaType, "Send the body as application/json in UTF-8, not compressed.")
	}
	return body, nil
}

// checkJSON refuses what decoders read differently from one another, or what the database cannot keep: two members of one
// name, more than one value, broken UTF-8, U+0000, and nesting that no schema has.
func checkJSON(body []byte) *contract.FieldError {
	fault := func(path []string, format string, args ...any) *contract.FieldError {
		return &contract.FieldError{Field: clip(fieldPath(path)), In: contract.FieldErrorInBody, Message: fmt.Sprintf(format, args...)}
	}
	if !utf8.Valid(body) {
		return fault(nil, "is not UTF-8")
	}
	type level struct {
		object bool
		names  map[string]bool
		key    string // of the member being read
		inName bool   // a name is expected
		index  int
	}
	var stack []level
	path := func() []string {
		var p []string
		for _, l := range stack {
			if l.object {
				p = append(p, l.key)
			} else {
				p = append(p, strconv.Itoa(l.index))
			}
		}
		return p
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	for n := 0; ; n++ {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) && len(stack) == 0 && n > 0 {
			return nil
		}
		if err != nil {
			return fault(nil, "is not valid JSON")
		}
		if len(stack) == 0 && n > 0 {
			return fault(nil, "holds more than one value")
		}
		if s, ok := tok.(string); ok && strings.ContainsRune(s, 0) {
			return fault(path(), "must not hold U+0000")
		}
		var top *level
		if len(stack) > 0 {
			top = &stack[len(stack)-1]
		}
		if top != nil && top.object && top.inName {
			if name, ok := tok.(string); ok {
				top.key = name
				if top.names[name] {
					return fault(path(), "is there more than once")
				}
				top.names[name] = true
				top.inName = false
				continue
			}
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			if len(stack) == maxDepth {
				return fault(nil, "is nested deeper than %d levels", maxDepth)
			}
			l := level{object: tok == json.Delim('{')}
			if l.object {
				l.names, l.inName = make(map[string]bool), true
			}
			stack = append(stack, l)
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
			top = nil
			if len(stack) > 0 {
				top = &stack[len(stack)-1]
			}
		}
		// A value has ended.
		if top != nil {
			top.inName = top.object
			top.index++
		}
	}
}
