package agents

import (
	"os"
	"testing"

	"changeover/internal/logtest"
)

func TestMain(m *testing.M) {
	// The simulator takes any signature; what the developer's machine is configured for has no part in this.
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		if err := os.Setenv(k, v); err != nil {
			panic(err)
		}
	}
	logtest.Main(m)
}
