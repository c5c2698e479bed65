// Gradients of attention by keys and values: dv = p^T g and dk = scale * ds^T q, for a tile of 32 keys over all queries.
// From the header: COLS_E, COLS_D (vec4 columns of q and g per invocation), and what attention_frame and attention_weight name.

var<workgroup> ps: array<f32, SIDE * PITCH>;
var<workgroup> ds: array<f32, SIDE * PITCH>;

//%head
    let key = first;
    //%repeat i ROWS
    let k$i = k_line(head, key + y + $iu);
    let v$i = v_line(head, key + y + $iu);
    //%repeat c COLS_E
    var dk$i_$c = vec4<f32>();
    //%end
    //%repeat c COLS_D
    var dv$i_$c = vec4<f32>();
    //%end
    //%end
    // Queries before the tile see none of its keys, if attention is causal.
    for (var query = select(0u, key, CAUSAL); query < p.l; query += SIDE) {
        let dots = dots_kq(
            vec4<i32>(k0, k1, k2, k3),
            vec4<i32>(q_line(head, query + x), q_line(head, query + x + 1u), q_line(head, query + x + 2u), q_line(head, query + x + 3u)),
        );
        let vg = dots_vg(
            vec4<i32>(v0, v1, v2, v3),
            vec4<i32>(g_line(head, query + x), g_line(head, query + x + 1u), g_line(head, query + x + 2u), g_line(head, query + x + 3u)),
        );
        for (var j = 0u; j < 4u; j++) {
            let stat = stats_of(head, query + x + j);
            //%repeat i ROWS
            let w$i = weight(score(head, query + x + j, key + y + $iu, dots[$i][j]), stat.x);
            ps[(y + $iu) * PITCH + x + j] = w$i;
            ds[(y + $iu) * PITCH + x + j] = w$i * (vg[$i][j] - stat.y);
            //%end
        }
        workgroupBarrier();
        let queries = min(SIDE, p.l - query);
        for (var j = 0u; j < queries; j++) {
            let q_at = q_line(head, query + j);
            let g_at = g_line(head, query + j);
            //%repeat i ROWS
            let p$i = ps[(y + $iu) * PITCH + j];
            let d$i = ds[(y + $iu) * PITCH + j];
            //%end
            //%repeat c COLS_E
            let q$c = q_load(q_at, x + $cu * SIDE);
            //%repeat i ROWS
            dk$i_$c += d$i * q$c;
            //%end
            //%end
            //%repeat c COLS_D
            let g$c = g_load(g_at, x + $cu * SIDE);
            //%repeat i ROWS
            dv$i_$c += p$i * g$c;
            //%end
            //%end
        }
        workgroupBarrier();
    }
    //%repeat i ROWS
    if (key + y + $iu < p.s) {
        let row = head * p.s + key + y + $iu;
        for (var j = 0u; j < 4u; j++) {
            //%repeat c COLS_E
            if (x + $cu * SIDE + j < p.e) {
                dk[row * p.e + x + $cu * SIDE + j] = dk$i_$c[j] * p.scale;
            }
            //%end
            //%repeat c COLS_D
            if (x + $cu * SIDE + j < p.d) {
                dv[row * p.d + x + $cu * SIDE + j] = dv$i_$c[j];
            }
            //%end
        }
    }
    //%end
}
