package route

func pageRows() []Row { return nil }
