package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"changeover/internal/store/internal/db"
)

const (
	auditPage  = 1000 // entries that are read at once
	sealed     = 1000 // entries from before the chain that one seal is for; migration 2 knows it too
	mostFaults = 20
	sealAction = "sealAudit"
	// pruneAction is that of the entry by which the chain says that its beginning was removed.
	pruneAction = "pruneAudit"
)

// AuditHead names an entry of the chain and, with its hash, everything before it. One that was noted where the database's owner
// cannot write is an anchor: see [Store.VerifyAudit].
type AuditHead struct {
	ID   int64
	Hash [sha256.Size]byte
}

// String is <number>:<hash in hexadecimal>; ParseAuditHead reads it.
func (h AuditHead) String() string { return fmt.Sprintf("%d:%x", h.ID, h.Hash) }

// ParseAuditHead reads what String wrote.
func ParseAuditHead(s string) (h AuditHead, err error) {
	number, sum, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(sum)
	if err == nil {
		h.ID, err = strconv.ParseInt(number, 10, 64)
	}
	if err != nil || len(b) != sha256.Size || h.ID < 1 {
		return AuditHead{}, fmt.Errorf("%q is not <number>:<64 hexadecimal digits>", s)
	}
	h.Hash = [sha256.Size]byte(b)
	return h, nil
}

// AuditReport is what VerifyAudit found.
type AuditReport struct {
	Entries  int64 // that there are
	Old      int64 // of them from before the chain, which seals in the chain vouch for
	Pruned   int64 // number of the last entry that was removed because of its age; 0: none
	Head     AuditHead
	Bad      int64        // places where something is wrong
	FirstBad int64        // number of the entry at the first of them; 0: none
	Faults   []AuditFault // the first twenty
}

// AuditFault is a place where the audit is not what was written.
type AuditFault struct {
	ID      int64 // of the entry
	Problem string
}

// VerifyAudit reads the whole audit, page by page, and computes every hash again. It finds entries that were altered, removed,
// added, exchanged or cut off at the end, by anybody who did not also write new hashes into everything behind them, the head
// included. Only the owner of the tables can do that (and the service, if it owns them), and no look at the database alone
// tells such a forged chain from a true one. That takes an anchor: a head that was noted earlier, elsewhere. An anchor whose entry
// is not there with that very hash is a fault.
//
// Where entries were removed because of their age ([SetAuditRetention]) what is left has to follow from the hash of the last of them, and
// an entry of the chain has to say so with that very hash. An anchor among them cannot be compared any more, which is a fault: note a
// head more often than that.
//
// It reads what was there when it began, and disturbs nobody. Entries from before the chain are taken as they were when
// migration 2 sealed them.
func (s *Store) VerifyAudit(ctx context.Context, anchors ...AuditHead) (AuditReport, error) {
	for {
		report, err := s.verifyAudit(ctx, anchors)
		if err != nil || report.Bad == 0 {
			return report, err
		}
		ends, err := s.auditEnds(ctx)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return AuditReport{}, fmt.Errorf("verify the audit: %w", err)
		}
		if err != nil || ends.PrunedID == report.Pruned {
			return report, nil
		} // else entries went while they were read
	}
}

func (s *Store) verifyAudit(ctx context.Context, anchors []AuditHead) (AuditReport, error) {
	v := verifier{anchors: make(map[int64][]AuditHead), parts: make(map[int64]*oldPart), seals: make(map[int64]seal)}
	for _, a := range anchors {
		v.anchors[a.ID] = append(v.anchors[a.ID], a)
	}
	ends, err := s.auditEnds(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		v.fault(0, "the head of the chain is gone")
		return v.report(), nil
	}
	if err != nil {
		return AuditReport{}, fmt.Errorf("verify the audit: %w", err)
	}
	v.begin(ends)
	for after := int64(math.MinInt64); after < ends.LastID; {
		rows, err := s.auditChain(ctx, after, ends.LastID)
		if err != nil {
			return AuditReport{}, fmt.Errorf("verify the audit after entry %d: %w", after, err)
		}
		if len(rows) == 0 { // they went while it was read
			break
		}
		for i := range rows {
			v.entry(&rows[i])
		}
		after = rows[len(rows)-1].AuditID
	}
	v.end()
	return v.report(), nil
}

func (s *Store) auditEnds(ctx context.Context) (ends db.AuditEndsRow, err error) {
	ctx, done := s.call(ctx, "verify_audit", callTimeout, &err)
	defer done()
	if err := s.needSchema(ctx, schemaRetention, "verifying the audit"); err != nil {
		return ends, err
	}
	return s.q.AuditEnds(ctx, s.pool)
}

func (s *Store) auditChain(ctx context.Context, after, upto int64) (rows []db.AuditChainRow, err error) {
	ctx, done := s.call(ctx, "verify_audit", callTimeout, &err)
	defer done()
	return s.q.AuditChain(ctx, s.pool, db.AuditChainParams{AfterID: after, UptoID: upto, MaxRows: auditPage})
}

// verifier walks along the chain.
type verifier struct {
	ends    db.AuditEndsRow
	anchors map[int64][]AuditHead // not met yet
	parts   map[int64]*oldPart    // entries from before the chain, by the seal that is for them
	seals   map[int64]seal
	last    AuditHead // the entry before
	entries int64
	old     int64
	told    bool // of the removal of entries
	walked  bool
	bad     int64
	faults  []AuditFault
	scratch []byte
}

type oldPart struct {
	first, last, entries int64
	hash                 hash.Hash
}

// seal is what an entry of the chain says of entries from before it.
type seal struct {
	First   int64  `json:"first"`
	Last    int64  `json:"last"`
	Entries int64  `json:"entries"`
	SHA256  string `json:"sha256"`
}

func (v *verifier) begin(ends db.AuditEndsRow) {
	v.ends = ends
	v.last.ID = ends.Before
	if ends.PrunedID > 0 {
		v.last.ID = ends.PrunedID
		copy(v.last.Hash[:], ends.PrunedHash)
		for _, a := range v.anchors[ends.PrunedID] { // the last that was removed can still be compared
			if a.Hash != v.last.Hash {
				v.fault(a.ID, "is not the entry of the anchor: it, or one before it, was written anew")
			}
		}
		delete(v.anchors, ends.PrunedID)
	}
}

func (v *verifier) entry(r *db.AuditChainRow) {
	v.entries++
	if v.ends.PrunedID > 0 && r.AuditID <= v.ends.PrunedID {
		v.fault(r.AuditID, fmt.Sprintf("stands before entry %d, up to which entries were removed", v.ends.PrunedID))
		return
	}
	if r.AuditID <= v.ends.Before {
		v.oldEntry(r)
		return
	}
	sum := v.hash(v.last.Hash[:], r)
	switch {
	case r.AuditID > v.ends.AuditID:
		v.fault(r.AuditID, "stands behind the head of the chain: it was added past it")
	case r.AuditID != v.last.ID+1:
		v.fault(v.last.ID+1, fmt.Sprintf("%s gone", entriesAre(v.last.ID+1, r.AuditID-1)))
	case !bytes.Equal(r.Hash, sum[:]):
		v.fault(r.AuditID, "does not follow from the entry before it: one of the two was altered, or entries changed places")
	}
	// The chain goes on with the hash that is stored, so that one altered entry is one fault.
	v.last = AuditHead{ID: r.AuditID, Hash: sum}
	if len(r.Hash) == sha256.Size {
		v.last.Hash = [sha256.Size]byte(r.Hash)
	}
	for _, a := range v.anchors[r.AuditID] {
		if a.Hash != v.last.Hash {
			v.fault(a.ID, "is not the entry of the anchor: this one, or one before it, was written anew")
		}
	}
	delete(v.anchors, r.AuditID)
	switch r.Action {
	case sealAction:
		v.seal(r.Details)
	case pruneAction:
		v.told = v.told || v.tells(r.Details)
	}
}

func (v *verifier) oldEntry(r *db.AuditChainRow) {
	v.old++
	p := v.parts[r.AuditID/sealed]
	if p == nil {
		p = &oldPart{first: r.AuditID, hash: sha256.New()}
		v.parts[r.AuditID/sealed] = p
	}
	p.last = r.AuditID
	p.entries++
	sum := v.hash(nil, r)
	p.hash.Write(sum[:])
}

// seal remembers the first seal of a part: those that the migration wrote come before all that anybody could add.
func (v *verifier) seal(details []byte) {
	var s seal
	if json.Unmarshal(details, &s) != nil || s.Entries < 1 || s.Last > v.ends.Before {
		return
	}
	if _, ok := v.seals[s.First/sealed]; !ok {
		v.seals[s.First/sealed] = s
	}
}

// tells says whether an entry of the chain tells of the removal that the head speaks of.
func (v *verifier) tells(details []byte) bool {
	var s seal
	return json.Unmarshal(details, &s) == nil && s.Last == v.ends.PrunedID && s.SHA256 == hex.EncodeToString(v.ends.PrunedHash)
}

// end looks at what only the whole walk can tell.
func (v *verifier) end() {
	v.walked = true
	if v.last.ID < v.ends.AuditID {
		v.fault(v.last.ID+1, fmt.Sprintf("%s gone from the end", entriesAre(v.last.ID+1, v.ends.AuditID)))
	}
	if v.last.ID == v.ends.AuditID && !bytes.Equal(v.last.Hash[:], v.ends.Hash) {
		v.fault(v.last.ID, "is not the entry that the head of the chain names")
	}
	if v.ends.PrunedID > 0 && !v.told {
		v.fault(v.ends.PrunedID, fmt.Sprintf("entries up to %d are gone, and none that is left tells that they were removed for their age", v.ends.PrunedID))
	}
	for part, p := range v.parts {
		s, ok := v.seals[part]
		got := seal{First: p.first, Last: p.last, Entries: p.entries, SHA256: hex.EncodeToString(p.hash.Sum(nil))}
		switch {
		case !ok:
			v.fault(p.first, entriesAre(p.first, p.last)+" from before the chain and not sealed in it")
		case s.Entries != got.Entries || s.First != got.First || s.Last != got.Last:
			v.fault(s.First, fmt.Sprintf("of the entries %d to %d from before the chain there were %d and are %d", s.First, s.Last, s.Entries, got.Entries))
		case s != got:
			v.fault(s.First, fmt.Sprintf("one of the entries %d to %d from before the chain was altered", s.First, s.Last))
		}
	}
	for part, s := range v.seals {
		if v.parts[part] == nil {
			v.fault(s.First, entriesAre(s.First, s.Last)+" gone")
		}
	}
	for id := range v.anchors {
		if id <= v.ends.PrunedID {
			v.fault(id, "the entry of the anchor was removed: compare with a later one")
		} else {
			v.fault(id, "the entry of the anchor is not in the chain")
		}
	}
}

func entriesAre(first, last int64) string {
	if first == last {
		return fmt.Sprintf("entry %d is", first)
	}
	return fmt.Sprintf("entries %d to %d are", first, last)
}

// fault keeps the first faults of the walk, which come in order, and all that are found at its end.
func (v *verifier) fault(id int64, problem string) {
	v.bad++
	if len(v.faults) < mostFaults || v.walked {
		v.faults = append(v.faults, AuditFault{ID: id, Problem: problem})
	}
}

func (v *verifier) report() AuditReport {
	slices.SortStableFunc(v.faults, func(a, b AuditFault) int { return cmp.Compare(a.ID, b.ID) })
	r := AuditReport{Entries: v.entries, Old: v.old, Pruned: v.ends.PrunedID, Bad: v.bad, Faults: v.faults[:min(len(v.faults), mostFaults)]}
	r.Head.ID = v.ends.AuditID
	copy(r.Head.Hash[:], v.ends.Hash)
	if len(r.Faults) > 0 {
		r.FirstBad = r.Faults[0].ID
	}
	return r
}

// postgresEpoch is what the binary form of a timestamptz counts from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// hash is what audit_hash of migration 2 computes.
func (v *verifier) hash(previous []byte, r *db.AuditChainRow) [sha256.Size]byte {
	b := append(v.scratch[:0], previous...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.AuditID))
	b = binary.BigEndian.AppendUint64(b, uint64(r.At.Time.UnixMicro()-postgresEpoch))
	field := func(f []byte) { b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...) }
	for _, s := range []string{r.Subject, r.Action, r.Target, r.Reason, r.RequestID, r.Outcome} {
		field([]byte(s))
	}
	for _, j := range [][]byte{r.Details, r.Before, r.After} {
		if j == nil {
			b = binary.BigEndian.AppendUint32(b, 1<<32-1) // null
		} else {
			field(j)
		}
	}
	for _, role := range r.Roles {
		field([]byte(role))
	}
	v.scratch = b
	return sha256.Sum256(b)
}
