package lab

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Browser is a headless Chromium, driven by WebDriver (W3C): JSON over HTTP.
type Browser struct {
	t       testing.TB
	session string // URL
}

// elementKey is WebDriver's name for an element's reference.
const elementKey = "element-6066-11e4-a52e-4f735466cecf"

// StartBrowser starts a browser with further arguments and environment variables.
func StartBrowser(t testing.TB, args []string, env ...string) *Browser {
	t.Helper()
	Require(t, Chromium)
	b := &Browser{t: t, session: "http://127.0.0.1:" + startDriver(t, env) + "/session"}
	var session struct{ SessionID string }
	b.Call(http.MethodPost, "", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"goog:chromeOptions": map[string]any{"args": append([]string{
			"--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=900,900", "--user-data-dir=" + t.TempDir(),
		}, args...)},
	}}}, &session)
	b.session += "/" + session.SessionID
	t.Cleanup(func() { b.Call(http.MethodDelete, "", nil, nil) })
	return b
}

// startDriver starts chromedriver and returns its port, which chromedriver prints.
func startDriver(t testing.TB, env []string) string {
	t.Helper()
	cmd := exec.Command("chromedriver", "--port=0") //nolint:noctx // it outlives the test's context
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	defer time.AfterFunc(pagePatience, func() { _ = out.Close() }).Stop()
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if _, port, ok := strings.Cut(lines.Text(), "started successfully on port "); ok {
			go func() { // so that chromedriver does not block on its output
				for lines.Scan() {
				}
			}()
			return strings.TrimSuffix(port, ".")
		}
	}
	t.Fatalf("chromedriver did not start:\n%s", said.String())
	return ""
}

// Call sends a command of WebDriver and reads its value.
func (b *Browser) Call(method, path string, body, value any) {
	b.t.Helper()
	if err := b.try(method, path, body, value); err != nil {
		b.t.Fatal(err)
	}
}

func (b *Browser) try(method, path string, body, value any) error {
	sent := []byte("{}")
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequest(method, b.session+path, bytes.NewReader(sent)) //nolint:noctx // cleanups come after the test's context
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer := struct{ Value any }{value}
	if res.StatusCode != http.StatusOK {
		answer.Value = nil
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %v", method, path, answer.Value)
	}
	return nil
}

// Open loads a page.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.Call(http.MethodPost, "/url", map[string]string{"url": url}, nil)
}

func (b *Browser) find(css string) (string, error) {
	var all []map[string]string
	err := b.try(http.MethodPost, "/elements", map[string]string{"using": "css selector", "value": css}, &all)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%d elements are %s", len(all), css)
	}
	if err != nil {
		return "", err
	}
	return "/element/" + all[0][elementKey], nil
}

// Element returns the path of the one element that matches a CSS selector.
func (b *Browser) Element(css string) string {
	b.t.Helper()
	path, err := b.find(css)
	if err != nil {
		b.t.Fatal(err)
	}
	return path
}

// Get returns a text, such as that of an element.
func (b *Browser) Get(path string) (text string) {
	b.t.Helper()
	b.Call(http.MethodGet, path, nil, &text)
	return text
}

// Click clicks on the element that matches a CSS selector.
func (b *Browser) Click(css string) {
	b.t.Helper()
	b.Call(http.MethodPost, b.Element(css)+"/click", nil, nil)
}

// Press types keys into the element that has the focus; WebDriver has code points for those without a
// character.
func (b *Browser) Press(keys string) {
	b.t.Helper()
	actions := []map[string]string{}
	for _, key := range keys {
		actions = append(actions, map[string]string{"type": "keyDown", "value": string(key)}, map[string]string{"type": "keyUp", "value": string(key)})
	}
	b.Call(http.MethodPost, "/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "keyboard", "actions": actions}}}, nil)
}

// Resize sets the window's size, in pixels.
func (b *Browser) Resize(width, height int) {
	b.t.Helper()
	b.Call(http.MethodPost, "/window/rect", map[string]int{"width": width, "height": height}, nil)
}

// Dark has pages shown as to people who prefer them dark.
func (b *Browser) Dark() {
	b.t.Helper()
	b.Call(http.MethodPost, "/goog/cdp/execute", map[string]any{"cmd": "Emulation.setEmulatedMedia", "params": map[string]any{
		"features": []map[string]string{{"name": "prefers-color-scheme", "value": "dark"}},
	}}, nil)
}

// Overflows reports whether the page is wider than the window.
func (b *Browser) Overflows() (wide bool) {
	b.t.Helper()
	b.Script("return document.documentElement.scrollWidth > document.documentElement.clientWidth", &wide)
	return wide
}

// Script runs JavaScript in the page.
func (b *Browser) Script(js string, value any) {
	b.t.Helper()
	b.Call(http.MethodPost, "/execute/sync", map[string]any{"script": js, "args": []any{}}, value)
}

// pagePatience bounds the wait for a page.
const pagePatience = 20 * time.Second

// Text returns the text of the one element that matches a CSS selector; "" if the page has none.
func (b *Browser) Text(css string) (text string) {
	path, err := b.find(css)
	if err == nil {
		err = b.try(http.MethodGet, path+"/text", nil, &text)
	}
	if err != nil {
		return ""
	}
	return text
}

// Want waits until the element has the text: after a click the previous page may still
// be shown.
func (b *Browser) Want(css, text string) {
	b.t.Helper()
	got := ""
	for end := time.Now().Add(pagePatience); time.Now().Before(end); {
		if got = b.Text(css); got == text {
			return
		}
	}
	b.t.Fatalf("%s says %q, want %q", css, got, text)
}

// WantFocus waits until the element with the id has the focus.
func (b *Browser) WantFocus(id string) {
	b.t.Helper()
	focus := ""
	for end := time.Now().Add(pagePatience); time.Now().Before(end); {
		if b.Script("return document.activeElement ? document.activeElement.id : ''", &focus); focus == id {
			return
		}
	}
	b.t.Fatalf("the focus is on %q, want %q", focus, id)
}

// screenshotEnv is the environment variable with the folder for screenshots.
const screenshotEnv = "CADDY_NEGOTIATE_SCREENSHOTS"

// Shoot saves a screenshot if CADDY_NEGOTIATE_SCREENSHOTS names a folder. docs/pictures/make so makes the
// pictures of the documentation.
func (b *Browser) Shoot(name string) {
	b.t.Helper()
	folder := os.Getenv(screenshotEnv)
	if folder == "" {
		return
	}
	png, err := base64.StdEncoding.DecodeString(b.Get("/screenshot"))
	if err == nil {
		err = os.WriteFile(fmt.Sprintf("%s/%s.png", folder, name), png, 0o600)
	}
	if err != nil {
		b.t.Error(err)
	}
}
