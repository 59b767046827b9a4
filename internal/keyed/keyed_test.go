package keyed_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/keyed"
)

func TestOneHoldsAKeyAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keyed.Locks
		holders, most := 0, 0
		for range 20 {
			go func() {
				unlock, err := locks.Lock(context.Background(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				holders++
				most = max(most, holders)
				<-time.After(time.Millisecond)
				holders--
				unlock()
			}()
		}
		<-time.After(time.Second)
		synctest.Wait()
		if most != 1 || holders != 0 {
			t.Errorf("%d held it at a time, %d hold it still", most, holders)
		}
	})
}

func TestKeysDoNotWaitForOneAnother(t *testing.T) {
	var locks keyed.Locks
	first, ok := locks.TryLock("a")
	if !ok {
		t.Fatal("a key that nobody holds was not given")
	}
	other, err := locks.Lock(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	defer other()
	if _, ok := locks.TryLock("a"); ok {
		t.Error("a key was given twice")
	}
	first()
	again, ok := locks.TryLock("a")
	if !ok {
		t.Fatal("a key that was given back was not given again")
	}
	again()
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keyed.Locks
		unlock, _ := locks.TryLock("a")
		ctx, cancel := context.WithCancel(context.Background())
		got := make(chan error, 1)
		go func() {
			_, err := locks.Lock(ctx, "a")
			got <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		unlock()
		if again, ok := locks.TryLock("a"); !ok {
			t.Error("who gave up still keeps others from it")
		} else {
			again()
		}
	})
}
