// Package keystore owns the private keys of a deployment: one file per purpose,
// or for the two authorities a key in another process (see sshagent), handed out
// as crypto.Signer only, and the keyed hash that other packages store
// secrets under. It also signs the manifest, because that is a statement about
// exactly these keys.
//
// It refuses: files that anybody but their owner can read, keys of the wrong
// kind or too weak for their purpose, one key under two purposes, and giving a private key
// away as bytes.
package keystore
