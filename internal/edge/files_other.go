//go:build !unix

package edge

// maxOpenFiles is not known here.
func maxOpenFiles() int { return 0 }
