// Gradient of attention by the queries: dq = scale * sum over keys of ds k, ds = p (g v^T - delta), p = exp(score - lse)
// recomputed. From the header: COLS (vec4 columns of k per invocation), and what attention_frame and attention_weight name.

var<workgroup> ds: array<f32, SIDE * PITCH>;

//%head
    let query = first;
    //%repeat i ROWS
    let q$i = q_line(head, query + y + $iu);
    let g$i = g_line(head, query + y + $iu);
    let stat$i = stats_of(head, query + y + $iu);
    //%repeat c COLS
    var acc$i_$c = vec4<f32>();
    //%end
    //%end
    for (var key = 0u; key < p.s && tile_seen(query, key); key += SIDE) {
        let dots = dots_qk(
            vec4<i32>(q0, q1, q2, q3),
            vec4<i32>(k_line(head, key + x), k_line(head, key + x + 1u), k_line(head, key + x + 2u), k_line(head, key + x + 3u)),
        );
        let gv = dots_gv(
            vec4<i32>(g0, g1, g2, g3),
            vec4<i32>(v_line(head, key + x), v_line(head, key + x + 1u), v_line(head, key + x + 2u), v_line(head, key + x + 3u)),
        );
        //%repeat i ROWS
        for (var j = 0u; j < 4u; j++) {
            let w = weight(score(head, query + y + $iu, key + x + j, dots[$i][j]), stat$i.x);
            ds[(y + $iu) * PITCH + x + j] = w * (gv[$i][j] - stat$i.y);
        }
        //%end
        workgroupBarrier();
        let keys = min(SIDE, p.s - key);
        for (var j = 0u; j < keys; j++) {
            let line = k_line(head, key + j);
            //%repeat i ROWS
            let w$i = ds[(y + $iu) * PITCH + j];
            //%end
            //%repeat c COLS
            let k$c = k_load(line, x + $cu * SIDE);
            //%repeat i ROWS
            acc$i_$c += w$i * k$c;
            //%end
            //%end
        }
        workgroupBarrier();
    }
    //%repeat i ROWS
    if (query + y + $iu < p.l) {
        let row = head * p.l + query + y + $iu;
        //%repeat c COLS
        for (var j = 0u; j < 4u; j++) {
            let col = x + $cu * SIDE + j;
            if (col < p.e) {
                dq[row * p.e + col] = acc$i_$c[j] * p.scale;
            }
        }
        //%end
    }
    //%end
}
