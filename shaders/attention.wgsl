// softmax(scale q k^T + mask) v with running maximum and sum per query (online softmax), and lse. A query without keys gives 0 and
// lse -inf. From the header: COLS (vec4 columns of v per invocation) and what attention_frame names.

// Scores, then weights, of the tile: [query][key].
var<workgroup> weights: array<f32, SIDE * PITCH>;
// Per query: maximum, sum, and the factor by which the last maximum shrank the sum.
var<workgroup> tops: array<f32, SIDE>;
var<workgroup> sums: array<f32, SIDE>;
var<workgroup> shrinks: array<f32, SIDE>;

// Takes the tile's scores of query r into its maximum and sum, and turns them into weights.
fn absorb(r: u32) {
    let p = params.heads;
    let old = tops[r];
    var top = old;
    for (var j = 0u; j < SIDE; j++) {
        top = max_nan(top, weights[r * PITCH + j]);
    }
    // No key so far: all weights are 0, and no difference of infinities is taken.
    let shift = select(top, 0.0, top == p.minus_inf);
    var sum = 0.0;
    for (var j = 0u; j < SIDE; j++) {
        let w = exp_below(weights[r * PITCH + j] - shift);
        weights[r * PITCH + j] = w;
        sum += w;
    }
    let shrink = exp_below(old - shift);
    tops[r] = top;
    shrinks[r] = shrink;
    sum += sums[r] * shrink;
    sums[r] = select(sum, p.nan, !is_finite(shift));
}

//%head
    let query = first;
    //%repeat i ROWS
    let q$i = q_line(head, query + y + $iu);
    //%repeat c COLS
    var acc$i_$c = vec4<f32>();
    //%end
    //%end
    if (lane < SIDE) {
        tops[lane] = p.minus_inf;
        sums[lane] = 0.0;
    }
    workgroupBarrier();
    for (var key = 0u; key < p.s && tile_seen(query, key); key += SIDE) {
        let dots = dots_qk(
            vec4<i32>(q0, q1, q2, q3),
            vec4<i32>(k_line(head, key + x), k_line(head, key + x + 1u), k_line(head, key + x + 2u), k_line(head, key + x + 3u)),
        );
        //%repeat i ROWS
        weights[(y + $iu) * PITCH + x] = score(head, query + y + $iu, key + x, dots[$i].x);
        weights[(y + $iu) * PITCH + x + 1u] = score(head, query + y + $iu, key + x + 1u, dots[$i].y);
        weights[(y + $iu) * PITCH + x + 2u] = score(head, query + y + $iu, key + x + 2u, dots[$i].z);
        weights[(y + $iu) * PITCH + x + 3u] = score(head, query + y + $iu, key + x + 3u, dots[$i].w);
        //%end
        workgroupBarrier();
        if (lane < SIDE) {
            absorb(lane);
        }
        workgroupBarrier();
        //%repeat i ROWS
        let shrink$i = shrinks[y + $iu];
        //%repeat c COLS
        acc$i_$c *= shrink$i;
        //%end
        //%end
        let keys = min(SIDE, p.s - key);
        for (var j = 0u; j < keys; j++) {
            let line = v_line(head, key + j);
            //%repeat i ROWS
            let w$i = weights[(y + $iu) * PITCH + j];
            //%end
            //%repeat c COLS
            let v$c = v_load(line, x + $cu * SIDE);
            //%repeat i ROWS
            acc$i_$c += w$i * v$c;
            //%end
            //%end
        }
        workgroupBarrier();
    }
    //%repeat i ROWS
    if (query + y + $iu < p.l) {
        let row = head * p.l + query + y + $iu;
        let sum = sums[y + $iu];
        let scale = select(1.0 / sum, 0.0, sum == 0.0);
        //%repeat c COLS
        for (var j = 0u; j < 4u; j++) {
            let col = x + $cu * SIDE + j;
            if (col < p.d) {
                out[row * p.d + col] = acc$i_$c[j] * scale;
            }
        }
        //%end
        if (x == 0u) {
            lse[row] = select(tops[y + $iu] + log(sum), p.minus_inf, sum == 0.0);
        }
    }
    //%end
}
