// Command journalbench compares ways to keep a gateway's journal: its own segments,
// bbolt and Pebble. Each does the same job on the same disk, in turns, and the
// medians are printed. See docs/decisions/0013-own-journal.md.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

type settings struct {
	rounds, puts, callers, size int
	held                        []int
	dir                         string
}

func main() {
	s := settings{held: []int{50_000, 200_000}}
	flag.IntVar(&s.rounds, "rounds", 5, "how often each takes its turn")
	flag.IntVar(&s.puts, "puts", 20_000, "payloads a round")
	flag.IntVar(&s.callers, "callers", 64, "callers at once")
	flag.IntVar(&s.size, "size", 1536, "bytes of a payload")
	flag.StringVar(&s.dir, "dir", "", "a directory on the disk to measure, instead of a temporary one")
	fill := flag.String("fill", "", "internal: fill the store of this name in -dir, say so and wait to be killed")
	flag.Parse()
	ctx := context.Background()
	var err error
	if *fill != "" {
		err = runFill(ctx, *fill, s)
	} else {
		err = run(ctx, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "journalbench:", err)
		os.Exit(1)
	}
}

// round is what one turn measured.
type round struct {
	rate               float64 // payloads a second
	p50, p99           time.Duration
	written            float64 // bytes to the disk for a payload
	release, readAgain time.Duration
}

func run(ctx context.Context, s settings) (err error) {
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "journalbench"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	}
	rounds := map[string][]round{}
	for n := range s.rounds {
		for i := range contestants {
			c := contestants[(i+n)%len(contestants)] // nobody is always the first
			r, err := turn(ctx, c, s)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			rounds[c.name] = append(rounds[c.name], r)
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, value func(c contestant) string) {
		fmt.Fprintf(w, "%s\t", what)
		for _, c := range contestants {
			fmt.Fprintf(w, "%s\t", value(c))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d callers, %d bytes, medians of %d rounds of %d\n", s.callers, s.size, s.rounds, s.puts)
	row("", func(c contestant) string { return c.name })
	row("durable payloads/s", func(c contestant) string {
		return fmt.Sprintf("%.0f", median(rounds[c.name], func(r round) float64 { return r.rate }))
	})
	row("reply p50, ms", func(c contestant) string {
		return ms(median(rounds[c.name], func(r round) time.Duration { return r.p50 }))
	})
	row("reply p99, ms", func(c contestant) string {
		return ms(median(rounds[c.name], func(r round) time.Duration { return r.p99 }))
	})
	row("disk bytes/payload", func(c contestant) string {
		return fmt.Sprintf("%.0f", median(rounds[c.name], func(r round) float64 { return r.written }))
	})
	row("read all, ms", func(c contestant) string {
		return ms(median(rounds[c.name], func(r round) time.Duration { return r.readAgain }))
	})
	row("release half, ms", func(c contestant) string {
		return ms(median(rounds[c.name], func(r round) time.Duration { return r.release }))
	})
	for _, held := range s.held {
		took := map[string]time.Duration{}
		for _, c := range contestants {
			if took[c.name], err = recovery(ctx, c, s, held); err != nil {
				return fmt.Errorf("%s: recovery: %w", c.name, err)
			}
		}
		row(fmt.Sprintf("open after SIGKILL, %d held, ms", held), func(c contestant) string { return ms(took[c.name]) })
	}
	sizes := map[string]weight{}
	for _, c := range contestants {
		if sizes[c.name], err = weigh(ctx, c.path); err != nil {
			return err
		}
	}
	row("modules", func(c contestant) string { return fmt.Sprint(sizes[c.name].modules) })
	row("packages", func(c contestant) string { return fmt.Sprint(sizes[c.name].packages) })
	row("lines of Go", func(c contestant) string { return fmt.Sprint(sizes[c.name].lines) })
	return w.Flush()
}

// turn fills a fresh store, reads all of it and releases the older half.
func turn(ctx context.Context, c contestant, s settings) (r round, err error) {
	dir, err := os.MkdirTemp(s.dir, c.name)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	st, err := c.open(ctx, dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	before, err := diskWrites()
	if err != nil {
		return r, err
	}
	start := time.Now()
	waits, err := put(ctx, st, s, s.puts, s.callers)
	if err != nil {
		return r, err
	}
	r.rate = float64(s.puts) / time.Since(start).Seconds()
	after, err := diskWrites()
	if err != nil {
		return r, err
	}
	r.written = float64(after-before) / float64(s.puts)
	slices.Sort(waits)
	r.p50, r.p99 = waits[len(waits)/2], waits[len(waits)*99/100]

	start = time.Now()
	n, last, err := st.read(s.puts)
	if err != nil || n != s.puts {
		return r, errors.Join(err, fmt.Errorf("%d payloads read, %d were put", n, s.puts))
	}
	r.readAgain = time.Since(start)
	start = time.Now()
	if err := st.release(last / 2); err != nil {
		return r, err
	}
	r.release = time.Since(start)
	if n, _, err = st.read(s.puts); err != nil || n != s.puts-s.puts/2 {
		return r, errors.Join(err, fmt.Errorf("%d payloads left, want %d", n, s.puts-s.puts/2))
	}
	return r, nil
}

// put has the callers put n payloads, each waiting for its own before the next, and
// returns how long each took.
func put(ctx context.Context, st store, s settings, n, callers int) ([]time.Duration, error) {
	var (
		left  atomic.Int64
		mu    sync.Mutex
		waits []time.Duration
		errs  []error
		wg    sync.WaitGroup
	)
	left.Store(int64(n))
	payload := make([]byte, s.size)
	for i := range payload {
		payload[i] = "{\"id\":\"evt_0042\",\"amount\":8800}"[i%31]
	}
	for range callers {
		wg.Go(func() {
			var own []time.Duration
			var err error
			for err == nil && left.Add(-1) >= 0 {
				start := time.Now()
				err = st.put(ctx, payload)
				own = append(own, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			waits, errs = append(waits, own...), append(errs, err)
		})
	}
	wg.Wait()
	return waits, errors.Join(errs...)
}

// filled is what a process says that waits to be killed.
const filled = "filled"

func runFill(ctx context.Context, name string, s settings) error {
	i := slices.IndexFunc(contestants, func(c contestant) bool { return c.name == name })
	if i < 0 {
		return fmt.Errorf("no store %q", name)
	}
	st, err := contestants[i].open(ctx, s.dir)
	if err != nil {
		return err
	}
	if _, err := put(ctx, st, s, s.puts, 1024); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, filled)
	select {} // SIGKILL ends it
}

// recovery has another process fill a store, kills it, and times until the store is
// open again and its first payload has been read.
func recovery(ctx context.Context, c contestant, s settings, held int) (took time.Duration, err error) {
	dir, err := os.MkdirTemp(s.dir, c.name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	//nolint:gosec // this program itself
	cmd := exec.CommandContext(ctx, self, "-fill", c.name, "-dir", dir, "-puts", fmt.Sprint(held), "-size", fmt.Sprint(s.size))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	killed := cmd.Process.Kill()
	_ = cmd.Wait() // it was killed: its status says so
	if err != nil || strings.TrimSpace(line) != filled || killed != nil {
		return 0, errors.Join(err, killed, fmt.Errorf("the process said %q", line))
	}
	start := time.Now()
	st, err := c.open(ctx, dir)
	if err != nil {
		return 0, err
	}
	n, _, err := st.read(1)
	took = time.Since(start)
	if err == nil && n != 1 {
		err = errors.New("nothing was recovered")
	}
	if err == nil {
		if n, _, err = st.read(held + 1); err == nil && n != held {
			err = fmt.Errorf("%d payloads recovered of %d", n, held)
		}
	}
	return took, errors.Join(err, st.Close())
}

// diskWrites is how many bytes this process has caused to be written to a disk.
func diskWrites() (n int64, err error) {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "\nwrite_bytes: ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		return 0, fmt.Errorf("/proc/self/io: %w", err)
	}
	return n, nil
}

// weight is what a package brings along, the standard library apart.
type weight struct{ modules, packages, lines int }

func weigh(ctx context.Context, path string) (weight, error) {
	const format = `{{if not .Standard}}{{.Module.Path}}{{range .GoFiles}} {{$.Dir}}/{{.}}{{end}}{{end}}`
	out, err := exec.CommandContext(ctx, "go", "list", "-deps", "-f", format, path).Output() //nolint:gosec // a path from above
	if err != nil {
		return weight{}, fmt.Errorf("go list %s: %w", path, err)
	}
	var w weight
	modules := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		modules[words[0]] = true
		w.packages++
		for _, file := range words[1:] {
			b, err := os.ReadFile(filepath.Clean(file))
			if err != nil {
				return w, err
			}
			w.lines += strings.Count(string(b), "\n")
		}
	}
	w.modules = len(modules)
	return w, nil
}

func median[T cmp.Ordered](rounds []round, of func(round) T) T {
	values := make([]T, len(rounds))
	for i := range rounds {
		values[i] = of(rounds[i])
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()*1000) }
