package policy

// The contract of this package:
//
//	Parse(name string, version int64, text string) (*Policy, error)   // *ParseError with File (the name), Line and Msg
//	Compile(policies ...*Policy) *ACL                                  // merges as Vault does; nil policies are ignored
//	(*ACL).Decide(op Operation, path string) Decision                  // no allocation on the allow path
//	(*ACL).Capabilities(path string) []string                          // as sys/capabilities answers: sorted; ["deny"]; ["root"]
//	(*ACL).Mountable(prefix string) bool                               // may the caller do anything at or below prefix ("secret/")?
//	Default                                                            // the text of the built-in policy "default"
//
// A path has no leading slash and, for every operation but List, no trailing one. For List it has none either; Decide
// itself tries with the trailing slash first, as Vault does. An *ACL is immutable and safe for concurrent use.

// ACL is a compiled set of policies.
type ACL struct{}
