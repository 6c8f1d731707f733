// Verifies Polder's .tlog-proof files with Go's own packages: notes by sumdb/note, the tree by sumdb/tlog.
//
//	verify FILE VKEY [WITNESS-VKEY ...]
//
// reads FILE and FILE.statement; every key given must have signed. Without arguments it reads cases from standard input,
// one a line, and answers `ok` or `no` to each. Nothing here is Polder's except the form of a log entry, which is
// SHA-256 over "polder/commitment/v1", a zero byte, the salt and the statement.
package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A witness checks cosignatures (C2SP tlog-cosignature), which sumdb/note leaves to its callers.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (w witness) Name() string    { return w.name }
func (w witness) KeyHash() uint32 { return w.hash }
func (w witness) Verify(msg, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	time := binary.BigEndian.Uint64(sig)
	return ed25519.Verify(w.key, []byte(fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, msg)), sig[8:])
}

func verifier(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not a verifier key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 {
		return nil, errors.New("not a verifier key")
	}
	if key[0] != 4 {
		return note.NewVerifier(vkey)
	}
	sum := sha256.Sum256([]byte(parts[0] + "\n" + string(key)))
	return witness{parts[0], binary.BigEndian.Uint32(sum[:4]), key[1:]}, nil
}

func verify(proof, statement string, vkeys []string) error {
	head, signed, found := strings.Cut(proof, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" ||
		!strings.HasPrefix(lines[1], "extra ") || !strings.HasPrefix(lines[2], "index ") {
		return errors.New("not a proof with a salt")
	}
	salt, err := base64.StdEncoding.DecodeString(lines[1][len("extra "):])
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(lines[2][len("index "):], 10, 64)
	if err != nil {
		return err
	}
	var path tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		path = append(path, hash)
	}

	var keys []note.Verifier
	for _, vkey := range vkeys {
		key, err := verifier(vkey)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	opened, err := note.Open([]byte(signed), note.VerifierList(keys...))
	if err != nil {
		return err
	}
	if len(opened.Sigs) != len(keys) {
		return errors.New("a required signature is missing")
	}
	text := strings.Split(opened.Text, "\n")
	if len(text) != 4 || text[0] != keys[0].Name() {
		return errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(text[1], 10, 64)
	if err != nil {
		return err
	}
	root, err := tlog.ParseHash(text[2])
	if err != nil {
		return err
	}
	entry := sha256.Sum256([]byte("polder/commitment/v1\x00" + string(salt) + statement))
	if index < 0 || index >= size {
		return errors.New("the index is outside the tree")
	}
	return tlog.CheckRecord(path, size, root, index, tlog.RecordHash(entry[:]))
}

func batch() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 64<<20)
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	for input.Scan() {
		fields := strings.Split(input.Text(), "\t")
		proof, _ := base64.StdEncoding.DecodeString(fields[3])
		statement, _ := base64.StdEncoding.DecodeString(fields[4])
		keys := append([]string{fields[1]}, strings.Split(fields[2], ",")...)
		if err := verify(string(proof), string(statement), keys); err != nil {
			fmt.Fprintf(output, "no %q\n", err.Error())
		} else {
			fmt.Fprintln(output, "ok")
		}
	}
}

func main() {
	if len(os.Args) == 1 {
		batch()
		return
	}
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: verify FILE VKEY [WITNESS-VKEY ...]")
		os.Exit(2)
	}
	proof, err := os.ReadFile(os.Args[1])
	if err == nil {
		var statement []byte
		if statement, err = os.ReadFile(os.Args[1] + ".statement"); err == nil {
			err = verify(string(proof), string(statement), os.Args[2:])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "NOT verified:", err)
		os.Exit(5)
	}
	fmt.Println("verified")
}
