// Package repository makes one apt and one yum repository of a folder with
// packages, and signs both with an OpenPGP key made of the deployment's
// repository key: dists/stable with InRelease and indexes by hash
// (https://wiki.debian.org/DebianRepository/Format), repodata with repomd.xml and
// its signature (createrepo_c). What it hands out is what was read and hashed.
//
// It refuses: files that others than the folder's owner can change, packages
// that do not say what they are, two packages of one name, version and
// architecture, and making, changing or verifying packages. It writes OpenPGP
// (RFC 4880) and never reads any.
package repository
