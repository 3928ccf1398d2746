// Package pkcs11 owns CA keys in a PKCS#11 token (OASIS PKCS#11 3.0): it finds a
// token by its label, logs in, makes keys that never leave it, and hands out
// those it finds as crypto.Signer: Ed25519 (CKM_EDDSA) and ECDSA on P-256
// (CKM_ECDSA, hashed here). It opens the token again when it was taken out or
// its sessions were lost.
//
// It refuses: two tokens or two keys of one label, and a second try with a PIN
// that the token has refused, because tokens count them. It is the only package
// that needs cgo, by the module that it imports: all of it but this file has the
// build tag pkcs11, so that everything else stays without.
package pkcs11
