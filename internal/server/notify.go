package server

import (
	"fmt"
	"net"
	"time"
)

// notifyTime bounds a word to the service manager.
const notifyTime = 2 * time.Second

// notifier tells a service manager about this server's state, by the protocol
// of sd_notify(3): one datagram of KEY=VALUE lines to the socket that it named.
// Without a socket it says nothing.
func notifier(socket string) func(state string) error {
	return func(state string) error {
		if socket == "" {
			return nil
		}
		// A leading @ stands for an abstract socket, here and in package net.
		c, err := net.DialTimeout("unixgram", socket, notifyTime)
		if err != nil {
			return fmt.Errorf("notify the service manager: %w", err)
		}
		defer func() { _ = c.Close() }()
		if err := c.SetWriteDeadline(time.Now().Add(notifyTime)); err != nil {
			return err
		}
		_, err = c.Write([]byte(state))
		return err
	}
}

// tell passes a word on; a service manager that does not listen stops nothing.
func (d *deployment) tell(state string) {
	if d.cfg.Notify == nil {
		return
	}
	if err := d.cfg.Notify(state); err != nil {
		d.cfg.Log.Warn("notify", "error", err.Error())
	}
}
