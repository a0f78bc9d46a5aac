package edge

import (
	"net/http"
	"net/netip"
	"strings"
)

// proxies are the networks of trusted proxies.
type proxies []netip.Prefix

func (p proxies) contain(a netip.Addr) bool {
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// resolve makes r what the client sent to the outermost trusted proxy: RemoteAddr (the address alone), Host, and whether it was
// HTTPS. Of X-Forwarded-For the rightmost address counts that is not of a trusted proxy, since everything to the left of it
// was written by the client. Of the other two it is the rightmost value, the nearest proxy's. Who is no proxy is believed
// nothing.
func (p proxies) resolve(r *http.Request) (secure bool) {
	secure = r.TLS != nil
	if len(p) > 0 {
		if peer, ok := parseAddress(r.RemoteAddr); ok && p.contain(peer) {
			if client := p.client(r.Header["X-Forwarded-For"]); client.IsValid() {
				r.RemoteAddr = client.String()
			}
			switch proto := last(r.Header["X-Forwarded-Proto"]); {
			case strings.EqualFold(proto, "https"):
				secure = true
			case strings.EqualFold(proto, "http"):
				secure = false
			}
			if host := last(r.Header["X-Forwarded-Host"]); validHost(host) {
				r.Host = host
			}
		}
	}
	// Nobody behind this may believe them.
	for _, name := range forwarding {
		delete(r.Header, name)
	}
	return secure
}

// forwarding are the headers in which proxies tell of their clients, in canonical form.
var forwarding = [...]string{
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Real-Ip",
}

// client walks X-Forwarded-For from right to left, up to the first address that is not a proxy's. What is no address
// ends the way: the hop that wrote it is the last one known. Invalid: the header says nothing.
func (p proxies) client(lines []string) netip.Addr {
	var known netip.Addr
	for i := len(lines) - 1; i >= 0; i-- {
		for rest := lines[i]; ; {
			comma := strings.LastIndexByte(rest, ',')
			a, ok := parseAddress(strings.Trim(rest[comma+1:], " \t"))
			if !ok {
				return known
			}
			if known = a; !p.contain(a) {
				return known
			}
			if comma < 0 {
				break
			}
			rest = rest[:comma]
		}
	}
	return known
}

// last is the last element of a header's list.
func last(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	line := lines[len(lines)-1]
	return strings.Trim(line[strings.LastIndexByte(line, ',')+1:], " \t")
}

// parseAddress reads an IP address with or without a port, IPv4 in IPv6 as IPv4.
func parseAddress(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		var withPort netip.AddrPort
		if withPort, err = netip.ParseAddrPort(s); err != nil {
			return netip.Addr{}, false
		}
		a = withPort.Addr()
	}
	return a.Unmap().WithZone(""), true
}

// group is what shares the limits of one address: the address itself, of IPv6 the /64 network, in which a single machine has
// all addresses.
func group(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64) // 64 is always possible
		return p.Addr()
	}
	return a
}

// validHost says whether a text can be a Host header: a name or an address, perhaps with a port.
func validHost(host string) bool {
	if host == "" || len(host) > 255 {
		return false
	}
	for _, c := range []byte(host) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return true
}
