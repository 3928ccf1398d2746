// Package grants is the last decision of a login and of every sudo, the eighth
// file of a login: Decide. It is pure: everything it knows is in its Input, and
// the answer is yes or the sentence that the person reads.
//
// It refuses: reading, waiting, remembering. What it was not told is a no.
package grants
