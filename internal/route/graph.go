package route

func graphRows() []Row { return nil }
