package compose

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"changeover/internal/config"
	"changeover/internal/connectsim"
)

type composeFile struct {
	Services map[string]struct {
		Image       string
		Environment map[string]string
		Ports       []string
		Volumes     []string
	}
	Configs map[string]struct{ Content string }
	Secrets map[string]struct{ File string }
}

// interpolated is a text as Compose reads it, with every variable at its default.
func interpolated(text string) string {
	text = regexp.MustCompile(`\$\{\w+:-([^}]*)\}`).ReplaceAllString(text, "$1")
	return strings.ReplaceAll(text, "$$", "$")
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	var file composeFile
	text, err := os.ReadFile("../../docker-compose.yml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal([]byte(interpolated(string(text))), &file))
	return file
}

// Every image has a version, every port is on the loopback address, every file that is mounted is there.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	images := map[string]bool{}
	for name, service := range readCompose(t).Services {
		images[service.Image] = true
		for _, port := range service.Ports {
			require.Regexp(t, `^127\.0\.0\.1:\d+:\d+$`, port, name)
		}
		for _, volume := range service.Volumes {
			if source, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(source, ".") {
				require.FileExists(t, "../../"+source, name)
			}
		}
	}
	text, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^FROM (?:--\S+ )?(\S+)`).FindAllStringSubmatch(string(text), -1) {
		images[m[1]] = true
	}
	delete(images, "scratch")
	delete(images, "changeover:local") // built here
	require.GreaterOrEqual(t, len(images), 6)
	for image := range images {
		require.Regexp(t, `:v?\d+\.\d+(\.\d+)?(-[a-z]+)?$`, image)
	}
	module, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(string(module))[1]
	require.True(t, images["golang:"+version+"-bookworm"], "Dockerfile builds with another Go than go.mod's %s", version)
}

// The service accepts its configuration, and it is that of the identity provider and of the floor beside it.
func TestConfigurationsFit(t *testing.T) {
	t.Parallel()
	file := readCompose(t)
	var env []string
	for key, value := range file.Services["server"].Environment {
		env = append(env, key+"="+strings.Replace(value, "/run/secrets/client", "secrets/client", 1))
	}
	c, err := config.Load("changeover.yaml", env)
	require.NoError(t, err)

	var dex struct {
		Issuer        string
		StaticClients []struct {
			ID, Secret   string
			Public       bool
			RedirectURIs []string `yaml:"redirectURIs"`
			TrustedPeers []string `yaml:"trustedPeers"`
		} `yaml:"staticClients"`
		StaticPasswords []struct{ Email, Username, Hash string } `yaml:"staticPasswords"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(file.Configs["dex"].Content), &dex))
	require.Equal(t, c.Auth.Issuer, dex.Issuer)
	client := dex.StaticClients[0]
	require.Equal(t, c.Auth.Login.ClientID, client.ID)
	require.Equal(t, c.Auth.Audience, client.ID)
	require.Equal(t, string(c.Auth.Login.ClientSecret), client.Secret)
	require.Equal(t, []string{c.Auth.Login.RedirectURL}, client.RedirectURIs)
	require.Equal(t, []string{"desktop"}, client.TrustedPeers)
	require.Equal(t, "secrets/client", strings.TrimPrefix(file.Secrets["client"].File, "deploy/compose/"))

	agents := connectsim.New(connectsim.Config{Seed: 1, Agents: 200}).Agents()
	people := map[string]string{}
	for _, p := range dex.StaticPasswords {
		people[p.Email] = p.Username
		require.Regexp(t, `^\$2a\$10\$.{53}$`, p.Hash)
	}
	require.Equal(t, map[string]string{"viewer": "", "operator": "", "admin": "", "agent": agents[0].ID}, people)
	for _, instance := range c.FailoverGroups[0].Instances {
		require.Equal(t, connectsim.DefaultInstanceID, instance.InstanceID)
	}
}
