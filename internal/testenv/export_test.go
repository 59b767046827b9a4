package testenv

// DebianScript and what goes with it are for tests of what happens on a machine that lacks a package.
const (
	DebianScript = debianScript
	PolicyText   = policyText
	ClusterText  = clusterText
)
