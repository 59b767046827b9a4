package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// result is one measurement.
type result struct {
	rate     float64       // requests a second
	p50, p99 time.Duration // of one request
	cpu      float64       // CPU seconds of the rival's own processes, for 1000 requests
	allocs   float64       // of the rival, a request; where it tells
}

// traffic is what a worker sends over and over.
type traffic struct{ addr, method, path, token, body string }

// load sends t from conns connections for d and counts what came back with status 200.
func load(ctx context.Context, t traffic, conns int, d time.Duration) (result, error) {
	var (
		mu   sync.Mutex
		all  []time.Duration
		fail error
		wg   sync.WaitGroup
	)
	start := time.Now()
	end := start.Add(d)
	for range conns {
		wg.Go(func() {
			times, err := worker(ctx, t, end)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			if err != nil {
				fail = err
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	if fail != nil {
		return result{}, fail
	}
	return summarise(all, took), nil
}

// worker is one connection.
func worker(ctx context.Context, w traffic, end time.Time) ([]time.Duration, error) {
	c := &fasthttp.HostClient{Addr: strings.TrimPrefix(w.addr, "http://"), MaxConns: 1, ReadTimeout: time.Minute}
	defer c.CloseIdleConnections()
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(w.addr + w.path)
	req.Header.SetMethod(w.method)
	req.SetBodyString(w.body)
	if w.token != "" {
		req.Header.Set("X-Vault-Token", w.token)
	}
	req.Header.Set("X-Vault-Request", "true")
	var times []time.Duration
	for time.Now().Before(end) && ctx.Err() == nil {
		t := time.Now()
		if err := c.Do(req, resp); err != nil {
			return times, err
		}
		if resp.StatusCode() != fasthttp.StatusOK {
			return times, fmt.Errorf("%s %s%s: status %d: %.200s", w.method, w.addr, w.path, resp.StatusCode(), resp.Body())
		}
		times = append(times, time.Since(t))
	}
	return times, ctx.Err()
}

func summarise(times []time.Duration, took time.Duration) result {
	slices.Sort(times)
	r := result{rate: float64(len(times)) / took.Seconds()}
	if n := len(times); n > 0 {
		r.p50, r.p99 = times[n/2], times[min(n-1, n*99/100)]
	}
	return r
}

// cpuSeconds is what the processes have used so far, as Linux counts it (100 ticks a second).
func cpuSeconds(pids ...int) (float64, error) {
	var ticks float64
	for _, pid := range pids {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 13 {
			return 0, fmt.Errorf("/proc/%d/stat is of another form", pid)
		}
		for _, x := range f[11:13] {
			n, err := strconv.ParseFloat(x, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return ticks / 100, nil
}

// median takes the middle of each figure by itself.
func median(rs []result) result {
	mid := func(f func(result) float64) float64 {
		v := make([]float64, len(rs))
		for i, r := range rs {
			v[i] = f(r)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return result{
		rate: mid(func(r result) float64 { return r.rate }), cpu: mid(func(r result) float64 { return r.cpu }),
		allocs: mid(func(r result) float64 { return r.allocs }),
		p50:    time.Duration(mid(func(r result) float64 { return float64(r.p50) })),
		p99:    time.Duration(mid(func(r result) float64 { return float64(r.p99) })),
	}
}
