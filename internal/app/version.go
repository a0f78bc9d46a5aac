package app

import "runtime/debug"

// version is set by the linker in released builds (-X changeover/internal/app.version=v1.2.3).
var version string

// Version names the build: what the linker was told, or else the commit.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	switch revision := settings["vcs.revision"]; {
	case revision == "":
		return "development"
	case settings["vcs.modified"] == "true":
		return revision + " modified"
	default:
		return revision
	}
}
