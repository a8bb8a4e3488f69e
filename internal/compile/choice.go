// SPDX-License-Identifier: Apache-2.0

package compile

// choice is an object of which one spec is chosen to be in force: the live one, or the last good one where the live one
// cannot be.
type choice[S any] struct {
	live *object[S] // its spec is nil if it is not valid
	good *object[S] // the object with its last good spec: live itself if that is the one; nil: there is none

	chosen   *object[S]
	conflict string // what the live spec was not chosen for
	starved  bool   // the live spec is new, and sends to a subset that has no pod
}

// fallBack chooses the last good specs of objects that have problems with the live ones. It returns whether any was
// chosen: then what all have is to be found out anew.
func fallBack[S any](choices []*choice[S], problems map[*object[S]]string) bool {
	again := false
	for _, x := range choices {
		if problem := problems[x.chosen]; problem != "" && x.good != nil && x.chosen != x.good {
			x.chosen, x.conflict, again = x.good, problem, true
		}
	}
	return again
}

// conclude reports what is in force of an object. problem says why the spec that was chosen is not, if so.
func conclude[S any](c *compilation, x *choice[S], problem string) {
	origin := x.live.origin
	for _, conflict := range []string{x.conflict, problem} {
		if conflict != "" {
			c.report.conflict(origin, "%s", conflict)
		}
	}
	if problem != "" {
		return
	}
	c.report.inForce(origin, x.chosen.lastGood)
	if x.chosen == x.live && !x.starved {
		c.result.Good = append(c.result.Good, origin)
	}
}
