package audit

// keyKinds are the rotations of the deployment's signing keys.
func keyKinds() []Kind {
	const purpose = "purpose of the key"
	key, was := Key{"key", "thumbprint of the key"}, Key{"previously", "state before"}
	return []Kind{
		{"key.rotate", "Somebody asked for the successor of a key.", SurfaceServer, did(), purpose, []Key{key, {"compromised", "whether the keys in force are withdrawn at once"},
			{"force", "whether machines are not waited for"}, {"after", "how long machines are waited for at most"}}},
		{"key.force", "Somebody ended the waiting for machines.", SurfaceServer, did(), purpose, nil},
		{"key.active", "A key signs from now on.", SurfaceServer, did(), purpose, []Key{key, was}},
		{"key.retiring", "A key signs no more and is trusted until all that it has signed is over.", SurfaceServer, did(), purpose, []Key{key, was}},
		{"key.retired", "A key is trusted no more.", SurfaceServer, did(), purpose, []Key{key, was}},
		{"key.compromised", "A key was withdrawn.", SurfaceServer, did(), purpose, []Key{key, was}},
		{"manifest.publish", "A new list of keys is in force.", SurfaceServer, did(), "tenant", []Key{{"epoch", "its epoch"}, {"version", "its version"}}},
	}
}
