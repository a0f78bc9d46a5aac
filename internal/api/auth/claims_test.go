package auth

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"changeover/internal/logtest"
)

// The claims as identity providers make them. What a token of each looks like is described in docs/security.md.
func TestIdentityProviders(t *testing.T) {
	t.Parallel()
	for name, c := range providers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			decoded, err := decodeObject([]byte(c.claims))
			require.NoError(t, err)
			m := mapping{agent: c.agent, roles: c.roles, instances: []string{instance}}
			require.Equal(t, c.want, m.identity(decoded, func(claim, why string) { t.Errorf("%s: %s", claim, why) }))
		})
	}
}

// What docs/security.md says to configure for an identity provider is what the claims above are read with, and a desktop and somebody
// with a role come of it.
func TestIdentityProvidersOfTheDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/security.md")
	require.NoError(t, err)
	names := map[string]string{"Okta": "Okta", "Microsoft Entra ID": "Entra ID", "Keycloak": "Keycloak", "AWS IAM Identity Center": "IAM Identity Center through"}
	sections := regexp.MustCompile("(?s)\n### ([^\n]+)\n(.*?)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.Len(t, sections, len(names))
	for _, section := range sections {
		prefix, ok := names[section[1]]
		require.True(t, ok, section[1])
		var c struct {
			Auth struct{ Mode, Issuer, Audience, AgentClaim, RolesClaim string }
		}
		require.NoError(t, yaml.Unmarshal([]byte(strings.NewReplacer("agentClaim", "agentclaim", "rolesClaim", "rolesclaim").Replace(section[3])), &c))
		require.Equal(t, "jwt", c.Auth.Mode, section[1])
		require.True(t, strings.HasPrefix(c.Auth.Issuer, "https://"), section[1])
		require.NotEmpty(t, c.Auth.Audience, section[1])
		agents, roles := 0, 0
		for name, p := range providers {
			if strings.HasPrefix(name, prefix) && p.agent == c.Auth.AgentClaim && p.roles == c.Auth.RolesClaim {
				if p.want.AgentID == jane {
					agents++
				}
				if len(p.want.Roles) > 1 || len(p.want.Roles) == 1 && p.want.Roles[0] != Agent {
					roles++
				}
			}
		}
		require.Positive(t, agents, "%s: no desktop's token is tested with these claims", section[1])
		require.Positive(t, roles, "%s: no operator's token is tested with these claims", section[1])
	}
}

// providers are tokens' claims with what the configuration names.
var providers = map[string]struct {
	agent, roles string
	claims       string
	want         Identity
}{
	"Okta, desktop: a profile attribute as claim": {
		"connect_user_id", "groups",
		`{"ver":1,"jti":"AT.x","iss":"https://acme.okta.com/oauth2/default","aud":"changeover","sub":"jane@acme.example","cid":"0oa1","uid":"00u1","scp":["openid","profile"],
			  "auth_time":1,"connect_user_id":"` + jane + `","groups":["Everyone"]}`,
		Identity{Subject: "jane@acme.example", AgentID: jane, Roles: []Role{Agent}},
	},
	"Okta, operator: groups of a name": {
		"connect_user_id", "groups",
		`{"ver":1,"sub":"olga@acme.example","cid":"0oa1","uid":"00u2","scp":["openid"],"groups":["Everyone","admin-vpn","changeover-operator","changeover-viewer"]}`,
		Identity{Subject: "olga@acme.example", Roles: []Role{Viewer, Operator}},
	},
	"Entra ID, desktop: an attribute as claim": {
		"connect_user_id", "roles",
		`{"aud":"api://changeover","iss":"https://login.microsoftonline.com/t/v2.0","azp":"c","name":"Jane Doe","oid":"o1","preferred_username":"jane@acme.example","scp":"Stream.Read",
			  "sub":"pairwise-1","tid":"t","ver":"2.0","connect_user_id":"` + jane + `"}`,
		Identity{Subject: "pairwise-1", Name: "jane@acme.example", AgentID: jane, Roles: []Role{Agent}},
	},
	"Entra ID, operator: app roles": {
		"connect_user_id", "roles",
		`{"oid":"o2","preferred_username":"olga@acme.example","roles":["operator","viewer"],"sub":"pairwise-2","tid":"t","ver":"2.0","wids":["b79fbf4d-3ef9-4689-8143-76b194e85509"]}`,
		Identity{Subject: "pairwise-2", Name: "olga@acme.example", Roles: []Role{Viewer, Operator}},
	},
	"Entra ID, a service with app roles": {
		"connect_user_id", "roles",
		`{"azp":"c","idtyp":"app","oid":"o3","roles":["viewer"],"sub":"o3","tid":"t","ver":"2.0"}`,
		Identity{Subject: "o3", Roles: []Role{Viewer}},
	},
	"Keycloak: realm roles": {
		"connect_user_id", "realm_access.roles",
		`{"azp":"desktop","typ":"Bearer","sub":"6b1c","realm_access":{"roles":["offline_access","uma_authorization","admin"]},"resource_access":{"account":{"roles":["manage-account"]}},
			  "scope":"openid email profile","preferred_username":"olga","connect_user_id":["` + jane + `"]}`,
		Identity{Subject: "6b1c", Name: "olga", AgentID: jane, Roles: []Role{Agent, Admin}},
	},
	"Keycloak: roles of a client with dots in its name": {
		"connect_user_id", "resource_access.changeover.acme.example.roles",
		`{"sub":"6b1c","realm_access":{"roles":["admin"]},"resource_access":{"changeover.acme.example":{"roles":["viewer"]}},"email":"olga@acme.example"}`,
		Identity{Subject: "6b1c", Name: "olga@acme.example", Roles: []Role{Viewer}},
	},
	"IAM Identity Center through a Cognito user pool": {
		"custom:connect_user_id", "cognito:groups",
		`{"sub":"aaaa","cognito:groups":["us-east-1_x_IdentityCenter","changeover-operator"],"iss":"https://cognito-idp.us-east-1.amazonaws.com/us-east-1_x","cognito:username":"idc_olga",
			  "aud":"1example","token_use":"id","identities":[{"userId":"olga","providerName":"IdentityCenter","providerType":"SAML","primary":"true"}],"email":"olga@acme.example",
			  "custom:connect_user_id":"` + janeARN + `"}`,
		Identity{Subject: "aaaa", Name: "olga@acme.example", AgentID: jane, Roles: []Role{Agent, Operator}},
	},
	"IAM Identity Center's own token says who, and nothing of roles": {
		"connect_user_id", "roles",
		`{"aws:identity_store_id":"d-996773e796","sts:identity_context":"AQoJb3JpZ2luX2Vj","sub":"83d43802-00b1-7054-db02-f1d683aacba5","aws:instance_account":"123456789012",
			  "iss":"https://identitycenter.amazonaws.com/ssoins-1234567890abcdef","aws:instance_arn":"arn:aws:sso:::instance/ssoins-6987d7fb04cf7a51","aud":"abcd","act":{"sub":"arn:aws:sso::1:trustedTokenIssuer"}}`,
		Identity{Subject: "83d43802-00b1-7054-db02-f1d683aacba5"},
	},
	"Auth0: names with a URL before them": {
		"https://changeover.example.com/agent", "https://changeover.example.com/roles",
		`{"sub":"auth0|5f7c","https://changeover.example.com/roles":["viewer"],"https://changeover.example.com/agent":"` + janeARN + `"}`,
		Identity{Subject: "auth0|5f7c", AgentID: jane, Roles: []Role{Agent, Viewer}},
	},
	"scopes as roles": {
		"connect_user_id", "scope", `{"sub":"s","scope":"openid changeover-viewer changeover-operator"}`, Identity{Subject: "s", Roles: []Role{Viewer, Operator}},
	},
	"one role": {"connect_user_id", "role", `{"sub":"s","role":"admin"}`, Identity{Subject: "s", Roles: []Role{Admin}}},
}

// ARN tricks: an agent's ARN that is none, that names another instance, or that two readers would cut differently; and ids that
// are paths, patterns or several.
func TestAgentTricks(t *testing.T) {
	t.Parallel()
	m := mapping{agent: "a", roles: "r", instances: []string{instance}}
	id := func(v any) (Identity, string) {
		var noted string
		got := m.identity(claims{"sub": "s", "a": v}, func(_, why string) { noted = why })
		return got, noted
	}
	for _, ok := range []any{
		jane, janeARN, "arn:aws-us-gov:connect:us-gov-west-1:111122223333:instance/" + instance + "/agent/" + jane, []any{jane}, []any{janeARN},
	} {
		got, noted := id(ok)
		require.Equal(t, jane, got.AgentID, "%v", ok)
		require.True(t, got.Is(jane))
		require.Empty(t, noted)
	}
	other := "00000000-1111-2222-3333-444455556666"
	for name, c := range map[string]struct {
		value any
		why   string
	}{
		"another instance":         {"arn:aws:connect:us-east-1:111122223333:instance/" + other + "/agent/" + jane, agentElsewhere},
		"another service":          {"arn:aws:iam:us-east-1:111122223333:instance/" + instance + "/agent/" + jane, agentNotID},
		"another partition":        {"arn:evil:connect:us-east-1:111122223333:instance/" + instance + "/agent/" + jane, agentNotID},
		"a queue":                  {"arn:aws:connect:us-east-1:111122223333:instance/" + instance + "/queue/" + jane, agentNotID},
		"an agent status":          {"arn:aws:connect:us-east-1:111122223333:instance/" + instance + "/agent-state/" + jane, agentNotID},
		"two agents":               {janeARN + "/agent/" + other, agentNotID},
		"two ARNs":                 {janeARN + " " + janeARN, agentNotID},
		"a longer path":            {janeARN + "/contacts", agentNotID},
		"a slash at the end":       {janeARN + "/", agentNotID},
		"nothing at the end":       {"arn:aws:connect:us-east-1:111122223333:instance/" + instance + "/agent/", agentNotID},
		"a line break":             {janeARN + "\n", agentNotID},
		"a line break in an id":    {jane + "\n", agentNotID},
		"a wildcard":               {"arn:aws:connect:*:*:instance/" + instance + "/agent/*", agentNotID},
		"no account":               {"arn:aws:connect:us-east-1::instance/" + instance + "/agent/" + jane, agentNotID},
		"an instance that is none": {"arn:aws:connect:us-east-1:111122223333:instance/../agent/" + jane, agentNotID},
		"traversal":                {"../" + jane, agentNotID},
		"traversal in an ARN":      {"arn:aws:connect:us-east-1:111122223333:instance/" + instance + "/agent/../" + jane, agentNotID},
		"an escape":                {"%38" + jane[1:], agentNotID},
		"an address":               {"jane@acme.example", agentNotID},
		"everybody":                {"*", agentNotID},
		"two ids":                  {jane + "," + other, agentNotID},
		"a list of two":            {[]any{jane, other}, agentNotText},
		"an empty list":            {[]any{}, agentNotText},
		"a number":                 {42.0, agentNotText},
		"an object":                {map[string]any{"id": jane}, agentNotText},
		"a list in a list":         {[]any{[]any{jane}}, agentNotText},
		"null":                     {nil, agentNotText},
		"digits of another script": {"８7654321-1111-2222-3333-444455556666", agentNotID},
	} {
		got, noted := id(c.value)
		require.Equal(t, Identity{Subject: "s"}, got, name)
		require.Equal(t, c.why, noted, name)
	}
	got, noted := id("")
	require.Equal(t, Identity{Subject: "s"}, got)
	require.Empty(t, noted, "an empty attribute is how some providers say none")
}

// Privilege escalation by roles of a wrong type, in other letters, as part of a word, or from where they do not count.
func TestRoleTricks(t *testing.T) {
	t.Parallel()
	m := mapping{agent: "a", roles: "r"}
	for name, c := range map[string]map[string]any{
		"a number":              {"r": 1.0},
		"true":                  {"r": true},
		"an object":             {"r": map[string]any{"admin": true}},
		"a list with a list":    {"r": []any{[]any{"admin"}}},
		"a list with a number":  {"r": []any{"admin", 1.0}},
		"capitals":              {"r": []any{"Admin", "ADMIN", "aDmin"}},
		"parts of words":        {"r": []any{"administrator", "not-admin", "admin-vpn", "xadmin", "changeover-admins", "changeover-changeover-admin"}},
		"commas":                {"r": "admin,viewer"},
		"spaces in a list":      {"r": []any{"viewer admin", " admin", "admin "}},
		"JSON in a string":      {"r": `["admin"]`},
		"a NUL":                 {"r": []any{"admin\x00"}},
		"a name with the path":  {"x": map[string]any{"r": "admin"}, "R": "admin", "roles": []any{"admin"}},
		"agent without an id":   {"r": []any{"agent"}},
		"agent with no good id": {"r": []any{"agent"}, "a": "../" + jane},
		"null":                  {"r": nil},
	} {
		c["sub"] = "s"
		got := m.identity(c, func(string, string) {})
		require.Empty(t, got.Roles, name)
		require.False(t, got.Is(jane))
		require.False(t, got.Is(""), "nobody is the agent without a name")
	}
	got := m.identity(claims{"sub": "s", "r": []any{"viewer", "unknown", "admin", "viewer"}}, func(string, string) {})
	require.Equal(t, []Role{Viewer, Admin}, got.Roles, "unknown roles are ignored")
}

func TestClaimPaths(t *testing.T) {
	t.Parallel()
	c := claims{
		"a": map[string]any{"b": map[string]any{"c": "deep"}, "b.c": "longer", "x": "y"}, "a.x": "as it is", "list": []any{map[string]any{"c": "in a list"}}, "s": "text",
	}
	for path, want := range map[string]any{"a.b.c": "longer", "a.x": "as it is", "s": "text"} {
		got, ok := c.find(path)
		require.True(t, ok, path)
		require.Equal(t, want, got, path)
	}
	for _, path := range []string{"", ".", "a.", ".a", "a..b", "a.b.d", "list.c", "list.0.c", "s.length", "b.c"} {
		_, ok := c.find(path)
		require.False(t, ok, path)
	}
}

// What is wrong with a good token's claims is in the log once, and without the claim's value.
func TestNotes(t *testing.T) {
	t.Parallel()
	var log logtest.Buffer
	v := newIssuer("rsa1").verifier(t, func(o *VerifierOptions) {
		o.AgentClaim, o.RolesClaim, o.Log = "noted_agent", "noted_roles", logtest.New(&log)
	})
	for range 3 {
		id, err := v.Verify(t.Context(), sign("rsa1", good(map[string]any{"noted_agent": "value-nobody-sees@acme.example", "noted_roles": 7})))
		require.NoError(t, err)
		require.Empty(t, id.Roles)
	}
	require.Equal(t, 3, strings.Count(log.String(), " claim=noted_"), "the agent, the roles, and that nothing is left: %s", &log)
	require.NotContains(t, log.String(), "value-nobody-sees")
}

func FuzzDecodeObject(f *testing.F) {
	for _, seed := range []string{`{"iss":"a","aud":["b"],"n":1e9,"o":{"p":[{}]}}`, `{"a":1,"a":2}`, `{"EXP":1}`, `[]`, `{"a":`, `{"\u0061":1,"a":2}`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		object, err := decodeObject(data)
		if err != nil {
			require.Nil(t, object)
			return
		}
		// What passes is what encoding/json, with which go-oidc reads the same bytes, makes of it.
		var plain map[string]any
		require.NoError(t, json.Unmarshal(data, &plain))
		require.Equal(t, plain, object)
		m := mapping{agent: "o.p", roles: "aud", instances: []string{instance}}
		id := m.identity(object, func(string, string) {})
		require.Equal(t, id.AgentID != "", id.Has(Agent))
	})
}
