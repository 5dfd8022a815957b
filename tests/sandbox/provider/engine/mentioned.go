package engine

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var kind = regexp.MustCompile(`[a-z][a-z0-9]*_[a-z0-9_]+`)

// mentioned are the names in the configuration of this folder and of its modules that may be types. Terraform wants every schema at once and
// decodes each; of two thousand it needs those that the configuration or the state has. Found is false where there is no configuration.
func mentioned(folder string) (names map[string]bool, found bool, err error) {
	folders := []string{folder}
	raw, err := os.ReadFile(filepath.Join(folder, ".terraform", "modules", "modules.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if err == nil {
		var list struct{ Modules []struct{ Dir string } }
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, false, err
		}
		for _, m := range list.Modules {
			dir := m.Dir
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(folder, dir)
			}
			folders = append(folders, dir)
		}
	}
	names = map[string]bool{}
	for _, dir := range folders {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, false, err
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".tf") && !strings.HasSuffix(e.Name(), ".tf.json") {
				continue
			}
			found = true
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, false, err
			}
			for _, name := range kind.FindAllString(string(text), -1) {
				names[name] = true
			}
		}
	}
	return names, found, nil
}
