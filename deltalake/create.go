package deltalake

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// newMetadata builds version 0's metadata and the smallest protocol that it needs.
func newMetadata(o *CreateOptions, now time.Time) (*Metadata, *Protocol, error) {
	errs := []error{o.Schema.validate()}
	for i, c := range o.PartitionColumns {
		j := o.Schema.Index(c)
		switch {
		case j < 0:
			errs = append(errs, fmt.Errorf("partition column %q is not in the schema", c))
		case !o.Schema.Fields[j].Type.primitive():
			errs = append(errs, fmt.Errorf("partition column %q has type %s, which cannot partition a table", c, o.Schema.Fields[j].Type))
		case containsFold(o.PartitionColumns[:i], c):
			errs = append(errs, fmt.Errorf("partition column %q appears twice", c))
		}
	}
	if errs[0] == nil {
		errs = append(errs, checkIdentities(o.Schema, o.PartitionColumns))
	}
	conf := map[string]string{}
	for k, v := range o.Properties {
		errs = append(errs, checkProperty(k, &v), keptProperty(k))
		conf[k] = v
	}
	schema := o.Schema
	if o.ClusterBy != nil {
		conf["delta.feature.clustering"] = "supported"
	}
	switch mode := conf["delta.columnMapping.mode"]; mode {
	case "", "none":
	case "name", "id":
		next := int32(0)
		schema = &Schema{mapFields(o.Schema.Fields, &next)}
		conf["delta.columnMapping.maxColumnId"] = strconv.Itoa(int(next))
	default:
		errs = append(errs, fmt.Errorf("property delta.columnMapping.mode = %q is not one of none, name, id", mode))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, fmt.Errorf("deltalake: create table: %w", err)
	}
	if strings.EqualFold(conf[rowTrackingProperty], "true") {
		(&Metadata{Configuration: conf}).nameRowColumns()
	}
	text, err := schema.MarshalJSON()
	if err != nil {
		return nil, nil, err
	}
	m := &Metadata{
		ID: uuid.NewString(), Name: o.Name, Description: o.Description, Format: Format{Provider: "parquet", Options: map[string]string{}},
		SchemaString: string(text), PartitionColumns: append([]string{}, o.PartitionColumns...), Configuration: conf, CreatedTime: now.UnixMilli(),
	}
	p, err := neededProtocol(schema, conf, &Protocol{MinReaderVersion: 1, MinWriterVersion: 2})
	if err != nil {
		return nil, nil, err
	}
	m.dropProtocolProperties()
	return m, p, nil
}

// dropProtocolProperties takes out what only asks for a protocol: the protocol
// action tells it from then on.
func (m *Metadata) dropProtocolProperties() {
	for k := range m.Configuration {
		if strings.HasPrefix(k, "delta.feature.") || k == "delta.minReaderVersion" || k == "delta.minWriterVersion" {
			delete(m.Configuration, k)
		}
	}
}

// mapFields gives every field below an id and a physical name for column mapping.
func mapFields(fields []Field, next *int32) []Field {
	out := make([]Field, len(fields))
	for i, f := range fields {
		meta := map[string]json.RawMessage{}
		for k, v := range f.Metadata {
			meta[k] = v
		}
		if _, ok := meta[mapIDKey]; !ok {
			*next++
			meta[mapIDKey] = json.RawMessage(strconv.Itoa(int(*next)))
			meta[mapNameKey] = json.RawMessage(strconv.Quote("col-" + uuid.NewString()))
		}
		out[i] = Field{f.Name, mapType(f.Type, next), f.Nullable, meta}
	}
	return out
}

func mapType(t *Type, next *int32) *Type {
	c := *t
	c.Fields = mapFields(t.Fields, next)
	if t.Elem != nil {
		c.Elem = mapType(t.Elem, next)
	}
	if t.Key != nil {
		c.Key = mapType(t.Key, next)
	}
	return &c
}

// legacyWriter is the writer version that implies a feature, legacyReader the
// reader version; 0 where only the feature's name does.
func legacyVersions(feature string) (reader, writer int) {
	switch feature {
	case "appendOnly", "invariants":
		return 1, 2
	case "checkConstraints":
		return 1, 3
	case "changeDataFeed", "generatedColumns":
		return 1, 4
	case "columnMapping":
		return 2, 5
	case "identityColumns":
		return 1, 6
	}
	return 0, 0
}

// neededProtocol raises p to what the schema and the properties ask for. It
// refuses what this package cannot keep.
func neededProtocol(schema *Schema, conf map[string]string, p *Protocol) (*Protocol, error) {
	var need []string
	on := func(key string) bool { return strings.EqualFold(conf[key], "true") }
	add := func(cond bool, feature string) {
		if cond {
			need = append(need, feature)
		}
	}
	add(on("delta.appendOnly"), "appendOnly")
	add(on("delta.enableChangeDataFeed"), "changeDataFeed")
	add(on("delta.enableDeletionVectors"), "deletionVectors")
	add(on("delta.enableInCommitTimestamps"), "inCommitTimestamp")
	add(on("delta.enableTypeWidening"), "typeWidening")
	add(on(rowTrackingProperty) || on(suspendedProperty), "rowTracking")
	add(on("delta.enableIcebergCompatV1"), "icebergCompatV1")
	add(on("delta.enableIcebergCompatV2"), "icebergCompatV2")
	add(on("delta.enableIcebergCompatV3"), "icebergCompatV3")
	add(on("delta.enableIcebergWriterCompatV1"), "icebergWriterCompatV1")
	add(conf["delta.universalFormat.enabledFormats"] != "", "universalFormat (delta.universalFormat.enabledFormats)")
	add(on("delta.enableVariantShredding"), "variantShredding")
	add(conf["delta.requireCheckpointProtectionBeforeVersion"] != "", "checkpointProtection")
	add(conf["delta.coordinatedCommits.commitCoordinator-preview"] != "", "coordinatedCommits-preview")
	add(conf["delta.checkpointPolicy"] == "v2", "v2Checkpoint")
	mode := conf["delta.columnMapping.mode"]
	add(mode == "name" || mode == "id", "columnMapping")
	for k, v := range conf {
		add(strings.HasPrefix(k, "delta.constraints."), "checkConstraints")
		if f, ok := strings.CutPrefix(k, "delta.feature."); ok && (v == "supported" || v == "enabled") {
			need = append(need, f)
		}
	}
	schemaFeatures(schema.Fields, add)
	add(slices.Contains(need, "rowTracking") || slices.Contains(need, "clustering"), "domainMetadata")
	sort.Strings(need)
	need = slices.Compact(need)
	for _, f := range need {
		if !writerFeature(f) {
			return nil, &UnsupportedError{"written", "writer feature " + f}
		}
	}
	return raiseProtocol(p, need), nil
}

func schemaFeatures(fields []Field, add func(bool, string)) {
	for i := range fields {
		f := &fields[i]
		_, gen := f.Metadata["delta.generationExpression"]
		add(gen, "generatedColumns")
		_, def := f.Metadata["CURRENT_DEFAULT"]
		add(def, "allowColumnDefaults")
		_, inv := f.Metadata["delta.invariants"]
		add(inv || !f.Nullable, "invariants")
		add(f.isIdentity(), "identityColumns")
		_, collated := f.Metadata["__COLLATIONS"]
		add(collated, "collations")
		typeFeatures(f.Type, add)
	}
}

func typeFeatures(t *Type, add func(bool, string)) {
	add(t.Kind == KindTimestampNTZ, "timestampNtz")
	schemaFeatures(t.Fields, add)
	if t.Elem != nil {
		typeFeatures(t.Elem, add)
	}
	if t.Key != nil {
		typeFeatures(t.Key, add)
	}
}

// raiseProtocol returns p with the features, and p itself when it has them all.
func raiseProtocol(p *Protocol, need []string) *Protocol {
	reader, writer, named := p.MinReaderVersion, p.MinWriterVersion, p.MinWriterVersion >= 7
	missing := false
	for _, f := range need {
		missing = missing || !p.hasWriter(f)
		r, w := legacyVersions(f)
		if w == 0 && !p.hasWriter(f) {
			named = true
		}
		reader, writer = max(reader, r), max(writer, w)
	}
	if !missing {
		return p
	}
	if !named {
		return &Protocol{MinReaderVersion: reader, MinWriterVersion: writer}
	}
	all := append([]string{}, need...)
	for _, f := range []string{"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "columnMapping", "identityColumns"} {
		if p.MinWriterVersion < 7 && p.hasWriter(f) {
			all = append(all, f)
		}
	}
	if p.WriterFeatures != nil {
		all = append(all, *p.WriterFeatures...)
	}
	sort.Strings(all)
	all = slices.Compact(all)
	var readers []string
	if p.ReaderFeatures != nil {
		readers = append(readers, *p.ReaderFeatures...)
	}
	for _, f := range all {
		if readerFeature(f) {
			readers = append(readers, f)
		}
	}
	sort.Strings(readers)
	readers = slices.Compact(readers)
	out := &Protocol{MinReaderVersion: max(p.MinReaderVersion, 1), MinWriterVersion: 7, WriterFeatures: &all}
	switch {
	case len(readers) == 1 && readers[0] == "columnMapping" && p.MinReaderVersion < 3:
		out.MinReaderVersion = 2
	case len(readers) > 0 || p.MinReaderVersion >= 3:
		out.MinReaderVersion = 3
		out.ReaderFeatures = &readers
	}
	return out
}
