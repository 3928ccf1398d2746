package route

func oauthRows() []Row { return nil }
