// Package output prints what a command returns, in the formats and to the
// letter of az, so that scripts written for az read it unchanged.
//
// It owns: the formats, the --query step, the default columns of a table, what
// may reach a person's terminal (Clean) and the progress line.
//
// It refuses: deciding what stdout is, reading the clock or the environment.
// The caller says whether there is a terminal and hands in the timer.
//
// Where it departs from az, on purpose: JSON, YAML and table escape what could steer a
// terminal; a table's row never spans lines.
package output
