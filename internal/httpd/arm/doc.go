// Package arm is the Resource Manager edge: it turns requests into calls of the
// resource engine and its answers into Azure's wire shapes, paging, conditions
// and long-running operations.
//
// It refuses: decisions. Who may do what, what a body may hold and what happens
// is the engine's, which checks every caller again.
package arm
