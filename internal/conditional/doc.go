// Package conditional owns Conditional Access: a pure evaluation of policies, in
// Microsoft Graph's shape, over the signals of one request. The answer names the
// missing control and the policy that wants it.
//
// It refuses: looking anything up, storage, time of its own, and guessing: a
// control or a condition that it does not know counts as not met, so that a
// policy nobody understands closes the door and never opens it.
package conditional
