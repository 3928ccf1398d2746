// Package token owns what leaves as a token: minting and verifying JWTs, the key
// set that others verify them with, and the rules by which a refresh token turns
// into its successor.
//
// It refuses: any signature algorithm but RS256, tokens without a known key id,
// storage, and deciding who may have a token (see oauth).
package token
