package broker

import "time"

// turns is deficit round-robin: whoever has work gets a quantum of worker time in its turn and may begin what its purse
// pays for. So those whose work takes long begin less often, and nobody waits for more than everybody else's turn.
type turns struct {
	quantum time.Duration
	at      int  // whose turn it is
	paid    bool // it has got its quantum
}

// dearest is the most quanta that one piece of work costs, so that looking for whoever can pay stays short.
const dearest = 64

// pick chooses one of n. cost says what the next piece of work of one costs, and false where it can't begin any; purse is
// what it has saved. It returns -1 where nobody can begin anything.
func (t *turns) pick(n int, cost func(i int) (time.Duration, bool), purse func(i int) *time.Duration) int {
	for range dearest + 1 {
		able := false
		for range n {
			t.at %= n
			i := t.at
			price, ok := cost(i)
			if ok {
				able = true
				if p := purse(i); t.pays(p, price) {
					return i
				}
			}
			t.at, t.paid = i+1, false
		}
		if !able {
			return -1
		}
	}
	return -1
}

// pays gives the one whose turn it is its quantum and takes the price from its purse, where that holds it.
func (t *turns) pays(purse *time.Duration, price time.Duration) bool {
	price = min(price, dearest*t.quantum)
	if !t.paid {
		*purse, t.paid = min(*purse+t.quantum, dearest*t.quantum), true
	}
	if *purse < price {
		return false
	}
	*purse -= price
	return true
}
