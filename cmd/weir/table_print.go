package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirstream/weir/deltalake"
)

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	sort.Strings(names)
	return names
}

func joinMap(m map[string]string) string {
	var parts []string
	for _, k := range sortedNames(m) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, " ")
}

// printGrid aligns columns; the first row is the head.
func printGrid(w io.Writer, rows [][]string) error {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], min(utf8.RuneCountInString(c), maxCell))
		}
	}
	var b strings.Builder
	for n, r := range rows {
		for i, c := range r {
			c = cutCell(c)
			b.WriteString(c)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
			}
		}
		b.WriteByte('\n')
		if n == 0 {
			for i, width := range widths {
				b.WriteString(strings.Repeat("-", width))
				if i < len(widths)-1 {
					b.WriteString("  ")
				}
			}
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const maxCell = 60

func cutCell(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) <= maxCell {
		return s
	}
	return string([]rune(s)[:maxCell-1]) + "…"
}

func showValue(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case time.Time:
		if v.Equal(v.Truncate(24 * time.Hour)) {
			return v.Format("2006-01-02")
		}
		return v.Format("2006-01-02 15:04:05.999999")
	case []byte:
		return fmt.Sprintf("0x%x", v)
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = showValue(x)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []deltalake.Entry:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = showValue(e.Key) + ": " + showValue(e.Value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case deltalake.Row:
		var parts []string
		for _, k := range sortedNames(v) {
			parts = append(parts, k+": "+showValue(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v)
}

// printJSONRow writes one row as an object, columns in order.
func printJSONRow(w io.Writer, b *deltalake.Batch, i int) error {
	var out strings.Builder
	out.WriteByte('{')
	for j, c := range b.Columns {
		if j > 0 {
			out.WriteByte(',')
		}
		key, err := json.Marshal(b.Schema.Fields[j].Name)
		if err != nil {
			return err
		}
		val, err := json.Marshal(jsonValue(c.Value(i)))
		if err != nil {
			return err
		}
		out.Write(key)
		out.WriteByte(':')
		out.Write(val)
	}
	out.WriteString("}\n")
	_, err := io.WriteString(w, out.String())
	return err
}

// jsonValue turns a row's value into what JSON can hold: numbers that are not
// finite and binary become text.
func jsonValue(v any) any {
	switch v := v.(type) {
	case float32:
		return jsonValue(float64(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
	case deltalake.Number:
		return json.Number(v)
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = jsonValue(x)
		}
		return out
	case []deltalake.Entry:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = map[string]any{"key": jsonValue(e.Key), "value": jsonValue(e.Value)}
		}
		return out
	case deltalake.Row:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = jsonValue(x)
		}
		return out
	}
	return v
}

func printSchema(w io.Writer, s *deltalake.Schema) {
	for _, c := range s.Fields {
		null := ""
		if !c.Nullable {
			null = " not null"
		}
		fmt.Fprintf(w, "column      %s %s%s\n", c.Name, c.Type, null)
	}
}
