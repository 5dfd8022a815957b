package small

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"mime/multipart"
	"net/textproto"
	"strconv"

	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

// readCloudInit joins the parts to the MIME document that cloud-init reads.
func readCloudInit(c *engine.Call) error {
	for name, fallback := range map[string]any{"gzip": true, "base64_encode": true, "boundary": "MIMEBOUNDARY"} {
		if c.At(name) == nil {
			c.Set(name, fallback)
		}
	}
	if c.B("gzip") && !c.B("base64_encode") {
		return fmt.Errorf("base64_encode is mandatory when gzip is enabled")
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	if err := w.SetBoundary(c.S("boundary")); err != nil {
		return err
	}
	fmt.Fprintf(&body, "Content-Type: multipart/mixed; boundary=%q\nMIME-Version: 1.0\r\n\r\n", w.Boundary())
	for _, part := range c.Objects("part") {
		if err := writePart(w, part); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	out := body.Bytes()
	if c.B("gzip") {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(out); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		out = packed.Bytes()
	}
	rendered := string(out)
	if c.B("base64_encode") {
		rendered = base64.StdEncoding.EncodeToString(out)
	}
	c.SetAll(map[string]any{"rendered": rendered, "id": strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(rendered))), 10)})
	return nil
}

func writePart(w *multipart.Writer, part map[string]any) error {
	kind := value.Text(part["content_type"])
	if kind == "" {
		kind = "text/plain"
	}
	h := textproto.MIMEHeader{"Content-Type": {kind}, "Mime-Version": {"1.0"}, "Content-Transfer-Encoding": {"7bit"}}
	if name := value.Text(part["filename"]); name != "" {
		h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	}
	if merge := value.Text(part["merge_type"]); merge != "" {
		h.Set("X-Merge-Type", merge)
	}
	p, err := w.CreatePart(h)
	if err != nil {
		return err
	}
	_, err = p.Write([]byte(value.Text(part["content"])))
	return err
}
