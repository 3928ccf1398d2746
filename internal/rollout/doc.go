// Package rollout owns the upgrade of all machines' agents in rings: which machines
// are to run which build now, when the next ring's turn comes, and when everything
// stops. It follows from what is stored, from what machines said of themselves and
// from the time, so every server of a deployment comes to the same answer.
//
// It refuses: two upgrades at a time, a step that nothing vouches for (a ring in
// which no machine got through), and knowing what a package is. What machines say
// decides nothing but whether others are asked to follow.
package rollout
