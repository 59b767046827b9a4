package gate

import "strings"

// own tells whether a path is below what Bailiff keeps itself in every namespace.
func own(path string) bool {
	top, _, _ := strings.Cut(path, "/")
	return top == "sys" || top == "auth" || top == "identity" || top == "cubbyhole"
}

// place makes one path of the namespace that a door was told and the path, so that both ways to say it mean the same. A
// namespace is a prefix of mounts' paths: what it holds is what is mounted below it. Bailiff's own paths stay what they are
// below a namespace, which is then in r.Namespace, and show what is in it.
func place(m *Mounts, r *Request) {
	if r.Namespace != "" && !own(r.Path) {
		r.Path, r.Namespace = r.Namespace+"/"+r.Path, ""
	}
	if r.Namespace != "" {
		return
	}
	if _, _, found := m.Route(r.Path); found {
		return
	}
	for i := 0; i < len(r.Path); i++ {
		if r.Path[i] == '/' && own(r.Path[i+1:]) && m.Below(r.Path[:i+1]) {
			r.Namespace, r.Path = r.Path[:i], r.Path[i+1:]
			return
		}
	}
}

// Below tells whether anything is mounted below prefix, which ends in a slash.
func (m *Mounts) Below(prefix string) bool {
	for _, x := range m.all {
		if strings.HasPrefix(x.Path, prefix) {
			return true
		}
	}
	return false
}

// FullPath is the path that policy judges and the trail names: the namespace's, where there is one, before Path.
func (r *Request) FullPath() string {
	if r.Namespace == "" {
		return r.Path
	}
	return r.Namespace + "/" + r.Path
}
