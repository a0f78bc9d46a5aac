// Command sbom writes for each program what it consists of, as a CycloneDX document: the modules that the linker has put into it, by the
// program's own account (debug/buildinfo), and the version of Go. It reads programs for any platform and runs none.
//
//	sbom -out DIR -version VERSION PROGRAM…    # DIR/<program>.cdx.json
//
// Two runs on the same program write the same bytes: there is no time in it and no serial number.
package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	out := flag.String("out", ".", "folder for the documents")
	version := flag.String("version", "development", "version of the programs, which -trimpath keeps out of them")
	flag.Parse()
	if err := run(*out, *version, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(out, version string, programs []string) error {
	if len(programs) == 0 {
		return errors.New("no program is named")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return err // with the file's name
		}
		bom, err := document(filepath.Base(program), version, info)
		if err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		if err := write(filepath.Join(out, filepath.Base(program)+".cdx.json"), bom); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, bom *cdx.BOM) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return cdx.NewBOMEncoder(file, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6) // what today's scanners read
}

// document describes a program. Every module depends on the program alone: what needs what is not in a binary.
func document(name, version string, info *debug.BuildInfo) (*cdx.BOM, error) {
	program := cdx.Component{
		BOMRef: "pkg:golang/" + info.Path, Type: cdx.ComponentTypeApplication, Name: name, Version: version,
		PackageURL: "pkg:golang/" + info.Path,
	}
	var properties []cdx.Property
	for _, s := range info.Settings {
		if s.Key == "GOOS" || s.Key == "GOARCH" || s.Key == "CGO_ENABLED" {
			properties = append(properties, cdx.Property{Name: "changeover:build:" + s.Key, Value: s.Value})
		}
	}
	program.Properties = &properties
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	components := []cdx.Component{{ // the name by which scanners know the standard library
		BOMRef: "pkg:golang/stdlib@" + goVersion, Type: cdx.ComponentTypeLibrary, Name: "stdlib", Version: goVersion, PackageURL: "pkg:golang/stdlib@" + goVersion,
	}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c, err := library(m)
		if err != nil {
			return nil, err
		}
		components = append(components, c)
	}
	refs := make([]string, 0, len(components))
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	slices.Sort(refs)
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &program}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}
	return bom, nil
}

// library describes a module. Its hash is what go.sum has, the SHA-256 over the list of its files' hashes.
func library(m *debug.Module) (cdx.Component, error) {
	url := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
	c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, Scope: cdx.ScopeRequired, PackageURL: url}
	if sum, ok := strings.CutPrefix(m.Sum, "h1:"); ok {
		raw, err := base64.StdEncoding.DecodeString(sum)
		if err != nil {
			return c, fmt.Errorf("the sum %q of %s: %w", m.Sum, m.Path, err)
		}
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
	}
	return c, nil
}
