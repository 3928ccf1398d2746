// Package storetest gives tests of other packages a real store in a temporary
// folder, whose writes indexes follow as they do in the server. Only tests
// import it.
package storetest
