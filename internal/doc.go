// Package internal is the house: house.txt lists its packages in order, and
// the test beside it holds the code to that list.
package internal
