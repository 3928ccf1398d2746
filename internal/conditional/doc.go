// Package conditional owns Conditional Access: policies in Microsoft Graph's
// shape, who may change them, and a pure evaluation of them over the signals of
// one request. The answer names the missing control and the policy that wants it.
//
// It refuses: looking anything up while it evaluates, time of its own, and
// guessing: a control, a state or a unit that it does not know counts as not met,
// so that a policy nobody understands closes the door and never opens it. For the
// same reason nothing is stored that is not enforced: whoever reads a policy
// believes it.
package conditional
