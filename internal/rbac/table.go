package rbac

import "math/bits"

// few is up to how many grants of one scope are found by their line alone.
const few = 19

// many is a line's count when its place has sorted the grants by principal.
const many = few + 1

// line is all that a refusal reads of one scope: one line of memory, as the
// processor fetches it.
type line struct {
	hash  uint64      // of the scope's key
	seen  uint64      // for each grant the bit that its principal's hash chooses
	place *place      // nil: nothing is here
	count uint16      // of grants; many for more than few
	who   [few]uint16 // of each grant the brief of its principal's hash
}

// bit and brief are two parts of a principal's hash that say nothing about each
// other.
func bit(hash uint64) uint64   { return 1 << (hash & 63) }
func brief(hash uint64) uint16 { return uint16(hash >> 48) }

// table finds lines by hash. They are sorted by it, with gaps: a line lies where
// its hash falls, as a part of the size, or behind its elders in the next gap.
// The last line is always free. The zero table is empty.
//
// A Go map would ask for three lines of memory where this asks for one, and a
// check does little else than wait for memory.
type table struct {
	lines []line
	size  uint64 // how far hashes are spread; what does not fit lies behind
	used  int
}

func (t *table) home(hash uint64) int {
	i, _ := bits.Mul64(hash, t.size)
	return int(i)
}

// seek returns where the line of a hash is, or has to be.
func (t *table) seek(hash uint64) int {
	i := t.home(hash)
	for t.lines[i].place != nil && t.lines[i].hash < hash {
		i++
	}
	return i
}

// find returns a hash's line, or nil. It is good until the next change.
func (t *table) find(hash uint64) *line {
	if t.used == 0 {
		return nil
	}
	if l := &t.lines[t.seek(hash)]; l.hash == hash && l.place != nil {
		return l
	}
	return nil
}

// put returns a hash's line, which it makes where there is none.
func (t *table) put(hash uint64) *line {
	if l := t.find(hash); l != nil {
		return l
	}
	if uint64(3*t.used) >= 2*t.size {
		t.spread()
	}
	i := t.seek(hash)
	free := i
	for t.lines[free].place != nil {
		free++
	}
	if free == len(t.lines)-1 {
		t.lines = append(t.lines, line{})
	}
	copy(t.lines[i+1:free+1], t.lines[i:free])
	t.lines[i] = line{hash: hash, place: &place{}}
	t.used++
	return &t.lines[i]
}

// spread makes room, so that half of the lines are free.
func (t *table) spread() {
	old := t.lines
	t.size = uint64(2*t.used + 8)
	t.lines = make([]line, t.size+1, t.size+64)
	next := 0
	for _, l := range old {
		if l.place == nil {
			continue
		}
		next = max(next, t.home(l.hash))
		if next >= len(t.lines)-1 {
			t.lines = append(t.lines, line{})
		}
		t.lines[next] = l
		next++
	}
}

// drop removes a hash's line; those that it had kept from home move back.
func (t *table) drop(hash uint64) {
	if t.find(hash) == nil {
		return
	}
	i := t.seek(hash)
	for ; t.lines[i+1].place != nil && t.home(t.lines[i+1].hash) <= i; i++ {
		t.lines[i] = t.lines[i+1]
	}
	t.lines[i] = line{}
	t.used--
}
