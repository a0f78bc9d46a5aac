package acceptance

import (
	"os"
	"testing"

	"changeover/internal/postgres/postgrestest"
)

const (
	east = "us-east-1"
	west = "us-west-2"
)

func TestMain(m *testing.M) {
	// The simulator takes any credentials; without some the SDK would ask this machine for them, over the network.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	postgrestest.Main(m)
}
