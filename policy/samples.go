package policy

import (
	"slices"
	"strings"
)

// Samples makes paths of the patterns of policies: such that match, and such that just don't. A policy's decisions can be
// compared by them.
func Samples(policies ...*Policy) []string {
	var out []string
	for _, p := range policies {
		for i := range p.rules {
			r := &p.rules[i]
			pattern := r.key
			if r.tmpl != nil {
				pattern = r.tmpl.start() + "/x"
			}
			body, star := strings.CutSuffix(pattern, "*")
			segments := strings.Split(body, "/")
			for j, s := range segments {
				if s == "+" {
					segments[j] = "any"
				}
			}
			base := strings.Join(segments, "/")
			out = append(out, base, base+"/", base+"x", base+"/x", base+"/x/y/", strings.TrimSuffix(base, "/"))
			if star {
				out = append(out, base+"x/y", base+"x/")
			}
			if at := strings.LastIndexByte(strings.TrimSuffix(base, "/"), '/'); at > 0 {
				out = append(out, base[:at], base[:at+1], base[:at]+"/other")
			}
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return slices.DeleteFunc(out, func(s string) bool { return strings.Trim(s, "/") == "" || strings.Contains(s, "//") })
}
