package acceptance

import (
	"testing"

	"changeover/internal/servertest"
)

const (
	east = "us-east-1"
	west = "us-west-2"
)

func TestMain(m *testing.M) { servertest.Main(m) }
