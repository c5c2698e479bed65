// A reducing member of a chain. The header declares the type `T_M`, `combine_M(a, b)`, `partial_M(o, j)`, the value at reduced
// position j of result o, and `put_M(o, x)`. `_M` is the number of the part, `params_M` its `Params`.

fn fold_M(o: u32, first: u32, step: u32) -> T_M {
    let length = params_M.length;
    // Four running folds: shorter dependence chains, and a quarter of the rounding error of one.
    var x0 = bitcast<T_M>(params_M.init);
    var x1 = x0;
    var x2 = x0;
    var x3 = x0;
    var j = first;
    while j + 3u * step < length {
        x0 = combine_M(x0, partial_M(o, j));
        x1 = combine_M(x1, partial_M(o, j + step));
        x2 = combine_M(x2, partial_M(o, j + 2u * step));
        x3 = combine_M(x3, partial_M(o, j + 3u * step));
        j += 4u * step;
    }
    while j < length {
        x0 = combine_M(x0, partial_M(o, j));
        j += step;
    }
    return combine_M(combine_M(x0, x1), combine_M(x2, x3));
}
