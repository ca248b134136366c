package deltalake

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A change feed by time is that of the versions committed in it, ends included,
// whether commits carry their time or their files tell it.
func TestChangesByTime(t *testing.T) {
	ctx := context.Background()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := &testClock{start}
	tbl, err := Create(ctx, NewMemoryStore(clock.now), CreateOptions{Schema: NewSchema(Col("id", Of(KindLong))), Table: TableOptions{Now: clock.now},
		Properties: map[string]string{"delta.enableChangeDataFeed": "true", "delta.enableInCommitTimestamps": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 { // version v at hour v
		clock.at = start.Add(time.Duration(i+1) * time.Hour)
		b := NewBatch(tbl.Latest().Schema())
		b.Columns[0].AppendLong(int64(i + 1))
		b.Len = 1
		if _, err := tbl.Append(ctx, Batches(b), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	for _, tt := range []struct {
		o    ChangeOptions
		want string
	}{
		{ChangeOptions{FromTime: at(-600)}, "1 2 3 4"}, {ChangeOptions{FromTime: at(120)}, "2 3 4"}, {ChangeOptions{FromTime: at(121)}, "3 4"},
		{ChangeOptions{FromTime: at(61), ToTime: at(180)}, "2 3"}, {ChangeOptions{From: 2, ToTime: at(179)}, "2"}, {ChangeOptions{ToTime: at(9999)}, "1 2 3 4"},
		{ChangeOptions{FromTime: at(241)}, "no version is as young as"}, {ChangeOptions{ToTime: at(-1)}, "no version is as old as"},
		{ChangeOptions{FromTime: at(130), ToTime: at(140)}, "is to end at version 2, before its first, 3"},
	} {
		var ids []string
		for b, err := range tbl.Changes(ctx, tt.o) {
			if err != nil {
				ids = []string{err.Error()}
				break
			}
			for i := range b.Len {
				ids = append(ids, fmt.Sprint(b.Columns[0].Longs[i]))
			}
		}
		if got := strings.Join(ids, " "); got != tt.want && !(strings.Contains(tt.want, "version") && strings.Contains(got, tt.want)) {
			t.Errorf("%v to %v: %s, want %s", tt.o.FromTime, tt.o.ToTime, got, tt.want)
		}
	}
}
