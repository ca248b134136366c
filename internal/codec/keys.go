package codec

import (
	"errors"
	"fmt"
	"reflect"
)

// Keys reports whether values of t can be keys: equal keys must have equal bytes
// and stay so, which pointers (save strings), interfaces, floats and time.Time
// cannot promise. The error names the offending part and the cure.
func Keys(t reflect.Type) error {
	if t == nil {
		return errors.New("codec: no key type given")
	}
	if fault := keyFault(t, typeName(t)); fault != "" {
		return fmt.Errorf("codec: key type %s", fault)
	}
	return nil
}

// keyFault says what is wrong with t as a key, "" if nothing.
func keyFault(t reflect.Type, path string) string {
	at := func(why string) string {
		if path == "" {
			return "has the type " + t.String() + ": " + why
		}
		return path + ": " + why
	}
	switch {
	case t == typeTime:
		return at("a time.Time cannot be a key, for equal times differ in their location: use UnixMicro")
	case t == typeDecimal:
		return ""
	}
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			p := path + "." + f.Name
			if path == "" {
				p = t.String() + "." + f.Name
			}
			if !f.IsExported() && !(f.Anonymous && f.Type.Kind() == reflect.Struct) || f.Tag.Get("state") == "-" || f.Tag.Get("weir") == "-" {
				return p + ": a key's fields must all be exported and encoded, for the key is compared with all of them"
			}
			if fault := keyFault(f.Type, p); fault != "" {
				return fault
			}
		}
		return ""
	case reflect.Array:
		return keyFault(t.Elem(), path)
	case reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return at("a float cannot be a key, for NaN is not equal to itself and -0 is to 0: use an integer or Decimal")
	case reflect.Pointer:
		return at("a pointer cannot be a key: use the value it points to")
	case reflect.Interface:
		return at("an interface cannot be a key: use a concrete type")
	case reflect.Slice:
		return at("a slice cannot be a key: use a string or an array")
	case reflect.Map, reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr:
		return at("a " + t.Kind().String() + " cannot be a key")
	}
	return ""
}
