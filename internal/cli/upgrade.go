package cli

import (
	"net/http"
	"strconv"
	"time"
)

// upgradeVerbs are `sally machine upgrade`.
func upgradeVerbs() []verb {
	const path = "/providers/Sallyport.Access/agentUpgrades"
	table := columns("Name=name", "Version=properties.version", "State=properties.state", "Ring=properties.ring", "Number=properties.ringNumber", "Through=properties.counts.through", "Waiting=properties.counts.waiting",
		"Failed=properties.counts.failed", "Left=properties.counts.left", "Away=properties.counts.away", "Later=properties.counts.later", "Reason=properties.reason")
	named := func() []flag { return []flag{flagName("upgrade")} }
	turn := func(word, short string) verb {
		return verb{path: "machine upgrade " + word, short: short, method: http.MethodPost, url: path + "/{name}", suffix: "/" + word, flags: named(), columns: table}
	}
	return []verb{
		{
			path: "machine upgrade create", short: "Upgrade machines' agents to a version that the server hands out, ring by ring; it stops by itself when machines go back.", method: http.MethodPut, url: path + "/{name}", columns: table,
			flags: append(named(), flag{name: "version", required: true, usage: "Version of the packages sallyport and sallyport-agent"},
				flag{name: "ring", kind: 'l', required: true, usage: "Space-separated rings in their order: a tag (ring=1), a part of all machines (25%), or all"},
				flag{name: "soak", usage: "How long a ring is watched before the next one's turn, for example 30m; 10m by default"},
				flag{name: "max-failures", usage: "How many machines may go back or come to no end before everything stops; none by default"},
				flag{name: "wait", usage: "How long a new build has to prove itself on a machine, 30s to 1h; 5m by default"},
				flag{name: "timeout", usage: "How long a machine of the ring may take; 1h by default"}),
			body: upgradeBody,
		},
		{path: "machine upgrade list", short: "List upgrades of machines' agents.", method: http.MethodGet, url: path, list: true, columns: table},
		{path: "machine upgrade show", short: "Show an upgrade with every machine that it is about.", method: http.MethodGet, url: path + "/{name}", flags: named(), columns: table},
		turn("pause", "Pause an upgrade: no further machine begins. Those that have begun come to their end."),
		turn("resume", "Let a paused upgrade go on, or one that stopped by itself; the failures so far are accepted then."),
		turn("cancel", "Cancel an upgrade for good. Machines keep the build that they run."),
		{path: "machine upgrade delete", short: "Delete an upgrade that is over.", method: http.MethodDelete, url: path + "/{name}", flags: named(), confirm: "Are you sure you want to perform this operation?", quiet: true},
	}
}

func upgradeBody(in values) (any, error) {
	properties := map[string]any{"version": in.text("version"), "rings": in.list("ring")}
	for _, f := range []struct{ flag, property string }{{"soak", "soakSeconds"}, {"wait", "waitSeconds"}, {"timeout", "timeoutSeconds"}} {
		if !in.given(f.flag) {
			continue
		}
		d, err := time.ParseDuration(in.text(f.flag))
		if err != nil || d < 0 || d%time.Second != 0 {
			return nil, usageError{"--" + f.flag + ": '" + in.text(f.flag) + "' is no time in whole seconds, for example 90s, 30m or 2h"}
		}
		properties[f.property] = int64(d / time.Second)
	}
	if in.given("max-failures") {
		n, err := strconv.Atoi(in.text("max-failures"))
		if err != nil || n < 0 {
			return nil, usageError{"--max-failures: '" + in.text("max-failures") + "' is no number of machines"}
		}
		properties["maximumFailures"] = n
	}
	return map[string]any{"properties": properties}, nil
}
