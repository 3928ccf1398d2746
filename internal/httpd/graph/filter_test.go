package graph

import (
	"strings"
	"testing"

	"sallyport/internal/fault"
)

func TestParseFilter_Table(t *testing.T) {
	e := principalEntity()
	o := object{"displayName": "O'Brien CI", "appId": "abc", "accountEnabled": true, "servicePrincipalNames": []string{"abc", "https://x"}, "homepage": nil}
	for in, want := range map[string]string{
		"displayName eq 'o''brien ci'":                     "yes",
		"displayName ne 'o''brien ci'":                     "no",
		"startswith(displayName,'O''B')":                   "yes",
		"startsWith(displayName, 'x')":                     "no",
		"startswith(displayName,'o''brien ci and more')":   "no",
		"startswith(homepage,'x')":                         "no",
		"endswith(displayName,'ci')":                       "yes",
		"accountEnabled eq true":                           "yes",
		"accountEnabled ne true":                           "no",
		"homepage eq null":                                 "yes",
		"appId in ('x','ABC')":                             "yes",
		"servicePrincipalNames/any(c:c eq 'https://x')":    "yes",
		"servicePrincipalNames/any(c:c eq 'y')":            "no",
		"not (appId eq 'abc') or accountEnabled eq true":   "yes",
		"appId eq 'x' or appId eq 'y' and appId eq 'abc'":  "no",
		"(appId eq 'abc' or appId eq 'y') and appId ne ''": "yes",
		"": "", "eq": "", "displayName": "", "displayName eq": "", "displayName eq x": "", "displayName eq 'x": "", "displayName eq 'x' extra": "", "displayName gt 'x'": "",
		"unknown eq 'x'": "", "createdDateTime eq 'x'": "", "accountEnabled eq 'true'": "", "displayName eq true": "", "servicePrincipalNames eq 'x'": "", "contains(displayName,'x')": "",
		"servicePrincipalNames/any(c:d eq 'x')": "", "servicePrincipalNames/all(c:c eq 'x')": "", "(displayName eq 'x'": "", "displayName eq 'x')": "", "displayName eq 'x'; drop": "",
		"not not not not not not not not not not not not not not not not not not appId eq 'x'": "", "appId in ()": "", "appId in ('x'": "", "startswith(accountEnabled,'x')": "",
	} {
		f, err := parseFilter(in, e.schema)
		got := ""
		if err == nil {
			got = map[bool]string{true: "yes", false: "no"}[f.holds(o)]
		} else if fault.As(err).Code != "Request_UnsupportedQuery" {
			t.Errorf("%q: %v", in, err)
		}
		if got != want {
			t.Errorf("%q: got %q want %q (%v)", in, got, want, err)
		}
	}
}

func TestParseFilter_SingleEquality(t *testing.T) {
	for in, want := range map[string]string{"userPrincipalName eq 'A@b'": "userPrincipalName=a@b", "userPrincipalName eq 'a' or id eq 'b'": "=", "not id eq 'b'": "=", "id ne 'b'": "="} {
		f, err := parseFilter(in, userEntity().schema)
		if err != nil || f.property+"="+f.equal != want {
			t.Errorf("%q: %q %q %v", in, f.property, f.equal, err)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"displayName eq 'x'", "not (a or b)", "servicePrincipalNames/any(c:c eq 'x')", "appId in ('a','b')", "startswith(displayName,'''')", "((((", "homepage eq null and accountEnabled ne false"} {
		f.Add(s)
	}
	schema := principalEntity().schema
	o := object{"displayName": "x", "servicePrincipalNames": []string{"x"}}
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := parseFilter(s, schema)
		if err != nil {
			if fault.As(err).Code != "Request_UnsupportedQuery" {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		filter.holds(o)
	})
}

func TestParseSelect_NamesEachPropertyOnce(t *testing.T) {
	if got, err := parseSelect(strings.Repeat("id,displayName,", 2000)+"id", userEntity()); err != nil || len(got) != 2 {
		t.Errorf("%d properties: %v", len(got), err)
	}
}
