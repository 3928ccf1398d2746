package route

// pageRows are the pages for people. Every form carries a token bound to the
// browser; every page works without script.
func pageRows() []Row {
	const person = "the page itself proves who the person is"
	return []Row{
		{ID: "page.authorize", Method: "GET", Pattern: "/{tenant}/oauth2/v2.0/authorize", Door: Public, Surface: Page, Why: person, Limiter: "login"},
		{ID: "page.authorizeADFS", Method: "GET", Pattern: "/{tenant}/oauth2/authorize", Door: Public, Surface: Page, Why: person, Limiter: "login"},
		{ID: "page.logout", Method: "GET", Pattern: "/{tenant}/oauth2/v2.0/logout", Door: Public, Surface: Page, Why: person, Limiter: "read"},
		{ID: "page.logoutADFS", Method: "GET", Pattern: "/{tenant}/oauth2/logout", Door: Public, Surface: Page, Why: person, Limiter: "read"},
		{ID: "page.signin", Method: "GET", Pattern: "/signin", Door: Public, Surface: Page, Why: person, Limiter: "read"},
		{ID: "page.signin.password", Method: "POST", Pattern: "/signin", Door: Public, Surface: Page, Why: person, Limiter: "login"},
		{ID: "page.signin.account", Method: "POST", Pattern: "/signin/account", Door: Public, Surface: Page, Why: person, Limiter: "login"},
		{ID: "page.signin.change", Method: "POST", Pattern: "/signin/change", Door: Public, Surface: Page, Why: person, Limiter: "login"},
		{ID: "page.signin.consent", Method: "POST", Pattern: "/signin/consent", Door: Public, Surface: Page, Why: person, Limiter: "login"},
		{ID: "page.signout", Method: "POST", Pattern: "/signout", Door: Public, Surface: Page, Why: person, Limiter: "login"},
		{ID: "page.device", Method: "GET", Pattern: "/device", Door: Public, Surface: Page, Why: person, Limiter: "read"},
		{ID: "page.device.code", Method: "POST", Pattern: "/device", Door: Public, Surface: Page, Why: person, Limiter: "login"},
		{ID: "page.device.decide", Method: "POST", Pattern: "/device/decide", Door: Public, Surface: Page, Why: person, Limiter: "login"},
	}
}
