package server

import (
	"fmt"
	"io"

	"github.com/google/uuid"
)

// newGUIDs makes random GUIDs (RFC 9562 version 4).
func newGUIDs(rand io.Reader, n int) ([]string, error) {
	ids := make([]string, n)
	for i := range ids {
		id, err := uuid.NewRandomFromReader(rand)
		if err != nil {
			return nil, fmt.Errorf("random: %w", err)
		}
		ids[i] = id.String()
	}
	return ids, nil
}
