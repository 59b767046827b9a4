/*
 * The life of one lease, with two brokers on one store and one target. README.md ties each step to the Go function that
 * does it. Leases don't meet one another in the store or on the target, so one is enough.
 *
 * A step of the model is one durable write or one answer of the target; between any two of them anything else may happen:
 * the other broker's work, the clock, an outage, a kill. Which threads belong to one process does not matter, because the
 * model may kill each by itself. Trouble is counted, so that every run ends; in the end the credential must be gone and the
 * lease revoked. That no run goes on for ever is checked apart.
 *
 * BROKEN leaves out one of the defences, to show that it is needed and that the model would tell:
 *   1 the credential is made before the lease is durable
 *   2 a lease that never became active is revoked without a second look after its deadline
 *   3 a write does not look at the version
 *   4 a later end is written to the store before it is written to the target
 *   5 the target does not refuse what comes after the deadline
 *   6 a claim never runs out
 *   7 whether the deadline is over is asked after the target answered, not before it was asked
 *   8 a lease becomes active although its deadline is over
 *   9 a renewal can move the target's end back
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#ifndef TROUBLE
#define TROUBLE 1         /* kills at due work, failures of the target and claims that run out on a living broker, together */
#endif
#ifndef RENEWALS
#define RENEWALS 2        /* at a time */
#endif

#define TTL      1        /* what a lease gets at issue or renewal */
#define LIFE     5        /* what it lives at most */
#define DEADLINE 1        /* an issue has that long */
#define MARGIN   1        /* ClockMargin */
#define END      5        /* where the clock stops: everything is due */

#define MIN(a, b) ((a) < (b) -> (a) : (b))
#define MAX(a, b) ((a) > (b) -> (a) : (b))

mtype = { None, Pending, Active, Revoking, Revoked };

/* The store. */
mtype st = None;
byte next;                /* when work is due */
byte expires;
byte certain;             /* the intent deadline and the margin */
bool issued;              /* IssuedAt is set */
bool fresh[5];            /* thread i read the newest version: what a Move of its copy checks */
bool held, byDead;        /* by a claim, or by its time; and whoever held it is gone */

/* The target. */
bool alive;               /* the credential is there */
byte native;              /* until when the target itself lets it in */
bool asked;               /* a Create is on its way or at work */
bool made;                /* its answer: it was done */

/* The client. */
byte told;                /* until when it may rely on its credential; 0: it has none */
bool ended;               /* somebody asked for an early end, or the answer was never released */

/* The world. */
byte now;
byte trouble = TROUBLE;
bool revokes = true;

#define OPEN     (st == Pending || st == Active || st == Revoking)
#define DUE      (OPEN && next <= now && !held)
#define READ     fresh[me] = true
#define LEAVE    fresh[me] = false
#define WROTE    fresh[0] = false; fresh[1] = false; fresh[2] = false; fresh[3] = false; fresh[4] = false; \
                 fresh[me] = true; held = false; byDead = false
#define VERSION  (BROKEN == 3 || fresh[me])

/* Mark for revocation. It reads again where a write came between, so it is one step. */
#define MARK     if :: OPEN -> st = Revoking; next = now; WROTE :: else fi; LEAVE

#define CAN_LEND (VERSION && st == Pending && (now < certain || BROKEN == 8))

proctype Issue(byte me)
{
	if
	:: atomic { now == 0 && BROKEN != 1 -> st = Pending; certain = now + DEADLINE + MARGIN; next = now + DEADLINE; WROTE }  /* intent */
	:: atomic { now == 0 && BROKEN == 1 -> certain = now + DEADLINE + MARGIN; issued = true }
	fi;
	if
	:: atomic { asked = true; native = now + DEADLINE + TTL + MARGIN }  /* Create is sent */
	:: goto killed
	fi;
	if
	:: atomic { !asked && made && BROKEN == 1 -> st = Pending; WROTE }
	:: atomic { !asked && made && BROKEN != 1 }
	:: atomic { asked || !made; MARK; goto killed }                     /* refused, failed or timed out: give up */
	:: goto killed
	fi;
	if
	:: atomic { CAN_LEND -> st = Active; issued = true; expires = MIN(now + TTL, LIFE); next = expires; WROTE; LEAVE }  /* activate */
	:: atomic { !CAN_LEND -> MARK; goto killed }                        /* give up */
	:: goto killed
	fi;
	if
	:: atomic { expires > now -> told = expires }               /* recorded and released */
	:: atomic { ended = true; MARK }                                    /* abandon */
	:: goto killed
	fi;
killed:	atomic { LEAVE }
}

#define MOVED    (BROKEN == 9 -> until + MARGIN : MAX(native, until + MARGIN))   /* the target's end, by a renewal */

/* Of two renewals one asks for more than the other: which of them is which makes no difference. */
#define MORE(me)  (me == 3)
#define LESS(me)  (me == 4 || RENEWALS == 1)

proctype Renew(byte me)
{
	byte until;
	atomic { st == Active && expires > now && told > 0 && !ended ->
		READ; if :: MORE(me) -> until = LIFE :: LESS(me) -> until = LIFE - 2 fi };
again:
	if
	:: atomic { until <= expires -> goto killed }                       /* another's end is as late, or the target's stays */
	:: atomic { until > expires && BROKEN == 4 && VERSION && st == Active -> expires = until; next = until; WROTE; told = until }
	:: atomic { until > expires && BROKEN != 4 && alive -> native = MOVED }            /* the target's end moves */
	:: atomic { !alive; goto killed }                                   /* it is not there */
	:: atomic { trouble > 0 -> trouble--; goto killed }               /* no answer */
	:: goto killed
	fi;
	if
	:: atomic { BROKEN == 4 && alive -> native = MOVED }
	:: atomic { BROKEN != 4 && VERSION && st == Active -> expires = until; next = until; WROTE }   /* Move */
		if
		:: atomic { until > now -> told = MAX(told, until) }
		:: goto killed
		fi
	:: atomic { BROKEN != 4 && !VERSION && st == Active && expires > now -> READ; goto again }   /* another has written: read again */
	:: atomic { st != Active || expires <= now; goto killed }           /* the lease has moved on */
	:: goto killed
	fi;
killed:	atomic { LEAVE; until = 0 }
}

#define OVER (over || BROKEN == 2 || BROKEN == 7 && now >= certain)

proctype Back(byte me)
{
	bool ok, over; /* its answer; that the deadline was over before it was asked */
again:
	do
	:: atomic { DUE -> held = true; byDead = false; READ };             /* claim */
		if
		:: atomic { VERSION && OPEN -> st = Revoking; WROTE; held = true; over = issued || now >= certain }  /* Move to revoking, held */
		:: atomic { !(VERSION && OPEN); goto leave }
		:: atomic { trouble > 0 -> trouble--; goto killed }
		fi;
		if
		:: atomic { alive = false; ok = true }                          /* the target ended it */
		:: atomic { trouble > 0 -> trouble-- }                        /* it did not */
		:: atomic { trouble > 0 -> trouble--; alive = false }         /* it did, and the answer was lost */
		:: atomic { trouble > 0 -> trouble--; goto killed }
		fi;
		if
		:: atomic { VERSION && st == Revoking && ok && !OVER -> next = certain; WROTE }   /* once more, later */
		:: atomic { VERSION && st == Revoking && ok && OVER -> st = Revoked; WROTE }
		:: atomic { VERSION && st == Revoking && !ok -> next = now; WROTE }               /* tried again */
		:: atomic { !(VERSION && st == Revoking) }                      /* somebody else's is as good */
		:: atomic { trouble > 0 -> trouble--; goto killed }
		fi;
		atomic { LEAVE; ok = false; over = false }
	od;
killed:	atomic { if :: fresh[me] && held -> byDead = true :: else fi; LEAVE; ok = false; over = false; goto again };
leave:	atomic { LEAVE; goto again }
}

active proctype Target()
{
	do
	:: atomic { asked && (now < certain || BROKEN == 5) -> alive = true; made = true; asked = false }
	:: atomic { asked && now >= certain && BROKEN != 5 -> asked = false }  /* refused: past its deadline */
	:: atomic { asked && trouble > 0 -> trouble--; asked = false }
	od
}

active proctype World()
{
	byte me = 4;
	do
	:: atomic { now < END -> now++; if :: told <= now -> told = 0 :: else fi }
	:: atomic { revokes && OPEN -> revokes = false; ended = true; told = 0; MARK }   /* a client's revoke, through any broker */
	:: atomic { held && byDead && BROKEN != 6 -> held = false; byDead = false }      /* a dead broker's claim runs out */
	:: atomic { held && !byDead && trouble > 0 -> trouble--; held = false }            /* a slow one's too */
	od
}

/* What must be true at every moment. */
#define NO_ORPHAN   (!alive || OPEN)
#define NOT_FORGOT  (!OPEN || next <= END)
#define KEPT        (told <= now || ended || (st == Active && alive && native >= told))

active proctype Watch()
{
	do
	:: atomic { !NO_ORPHAN -> assert(NO_ORPHAN) }
	:: atomic { !NOT_FORGOT -> assert(NOT_FORGOT) }
	:: atomic { !KEPT -> assert(KEPT) }
	:: atomic { timeout -> assert(!alive && !asked && (st == None || st == Revoked)); break }
	od
}

init {
	atomic {
		run Back(1); run Back(2); run Renew(3);
		if :: RENEWALS > 1 -> run Renew(4) :: else fi;
		run Issue(0)
	}
}
